"""Scenes whose pixels follow from their classes."""

import numpy as np

from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.types import InputSpec, LabelClass, Legend, Roi, View

SPEC = InputSpec(
    views={"local": View(32, 32), "surrounding": View(64, 64)},
    window=32,
    mean=(0, 0, 0),
    std=(1, 1, 1),
)
LEGEND = Legend(tuple(LabelClass(i + 1, f"c{i}", "#112233", i) for i in range(4)))


class ArrayTarget:
    """Labels of a scene, 255 outside of an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def read(self, roi: Roi) -> np.ndarray:
        found = np.full((roi.height, roi.width), 255, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self.array.shape))
        found[inside.shift(-roi.y, -roi.x).slices] = self.array[inside.slices]
        return found


def scene(seed: int = 0, size: tuple[int, int] = (90, 120)) -> Scene:
    """Return a picture whose first band is 60 times the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (size[0] // 6 + 1, size[1] // 6 + 1)).astype(np.uint8)
    labels = labels.repeat(6, 0).repeat(6, 1)[: size[0], : size[1]]
    data = np.stack([labels * 60, labels * 30 + 10, 250 - labels * 60], -1)
    image = image_from_array(data.astype(np.uint8), name=f"s{seed}", rgb=True)
    return Scene(f"s{seed}", image, ArrayTarget(labels))
