"""Images whose coarser levels are still missing."""

import functools

import numpy as np

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import ArraySource, LevelSource, Slices
from napari_uhrseg.io.image.pending_level import PendingLevel


@functools.cache
def scene(height: int = 1151, width: int = 2253) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    grey = (y * 7 + x * 13 + (y * x) // 250) % 251
    return np.stack([grey, grey[:, ::-1], 255 - grey], -1).astype(np.uint8)


class Lazy(ArraySource):
    """An array as a file would give it: not in memory, as far as an Image knows."""

    def __init__(self, array: np.ndarray, chunks: tuple[int, ...]) -> None:
        super().__init__(array, chunks)
        self.array = memoryview(b"")
        self._pixels = array
        self.read = 0

    def __getitem__(self, key: Slices) -> np.ndarray:
        self.read += 1
        return self._pixels[key]


def tiled(data: np.ndarray, fingerprint: str = "f", **more: object) -> Image:
    source = Lazy(data, (256, 256, *data.shape[2:]))
    return image_of(source, fingerprint=fingerprint, **more)


def image_of(*levels: LevelSource, fingerprint: str = "f", **more: object) -> Image:
    """Levels, and coarser ones that are missing."""
    shape, every = levels[-1].shape, list(levels)
    for _ in range(2):
        shape = (-(-shape[0] // 2), -(-shape[1] // 2), *shape[2:])
        chunks = (256, 256, *shape[2:])
        every.append(PendingLevel(shape, levels[0].dtype, chunks))
    return Image(
        name="scene",
        sources=every,
        source_axes="yxs" if len(shape) == 3 else "yx",
        fingerprint=fingerprint,
        fill=False,
        **more,  # type: ignore[arg-type]
    )
