"""Data set of the corrections in the label stores of several images.

The corrections are the ground truth; other pixels have no label. The classes are those
that are corrected in any of the images, matched by name. Whole images are held out for
validation.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.correction_sites import (
    Points,
    SiteGrid,
    find_points,
)
from napari_uhrseg.engine.data.scenes import Scene, SceneDataset, held_out_names
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.corrections.counts.correction_counts import CorrectionCounts
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import IGNORED, LabelClass, Labels, Legend, Roi
from napari_uhrseg.units import counted

COUNT_CELL = 512  # pixels; the cells in which corrections are counted

Images = Image | Sequence[Image]
Stores = LabelStore | Sequence[LabelStore]


@dataclass(frozen=True, slots=True)
class CorrectedLabels:
    """Ground truth from all corrections of a store, read as needed.

    Parameters
    ----------
    store
        The labels.
    channels
        (256,) uint8 class index of each class id, 255: none.
    """

    store: LabelStore
    channels: npt.NDArray[np.uint8]

    def read(self, roi: Roi) -> Labels:
        """Return (h, w) uint8 channels of a level-0 rectangle; 255: not corrected."""
        found = np.full((roi.height, roi.width), IGNORED, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self.store.shape))
        if inside.area:
            known = self.channels[read_array(self.store.correction[0], inside.slices)]
            found[inside.shift(-roi.y, -roi.x).slices] = known
        return found

    def covers(self, roi: Roi) -> bool:
        """Return False if no pixel of a level-0 rectangle has a label."""
        return bool((self.read(roi) != IGNORED).any())

    def points(self) -> Points:
        """Return corrected pixels of each class; their number is bounded."""
        one = np.ones((1, 1), np.int32)
        everywhere = SiteGrid(max(self.store.shape), one, disjoint=True)
        return find_points(self.store, self.channels, everywhere)


def image_pairs(image: Images, store: Stores) -> list[tuple[Image, LabelStore]]:
    """Return each image with its label store.

    Raises
    ------
    TrainingError
        If there are no images, not as many label stores, or a store belongs to
        another image.
    """
    images = [image] if isinstance(image, Image) else list(image)
    stores = [store] if isinstance(store, LabelStore) else list(store)
    if not images or len(images) != len(stores):
        raise TrainingError(
            f"{counted(len(images), 'image')} and "
            f"{counted(len(stores), 'label store')} are given.",
            "Give one label store for each image, in the same order.",
        )
    pairs = list(zip(images, stores, strict=True))
    for pair in pairs:
        _check_image(*pair)
    return pairs


def _check_image(image: Image, store: LabelStore) -> None:
    """Raise TrainingError if a store does not belong to an image."""
    if store.shape != image.shape:
        raise TrainingError(
            f"{image.name} has {image.shape[0]} rows and {image.shape[1]} columns, "
            f"the labels {store.shape[0]} and {store.shape[1]}.",
            "Choose the image that was corrected.",
        )
    was, now = store.info.fingerprint, image.fingerprint
    if was and now and was != now:
        raise TrainingError(
            f"{image.name} differs from the image that was corrected, "
            f"{store.info.path or store.name}.",
            "Choose the image that was corrected.",
        )


def corrected_images(
    images: Images,
    stores: Stores,
    held_out: float | Collection[str] = 0.2,
    seed: int = 0,
) -> SceneDataset:
    """Return the corrections of several images as a data set for ``train()``.

    All windows are drawn around corrected pixels, and the classes are drawn first.
    Images without corrections are left out, which a warning says. Memory is bounded:
    the pixels that are kept of each image and class have a largest number.

    Parameters
    ----------
    images
        The image that was corrected, or several.
    stores
        The labels with the corrections, or those of each image in the same order.
    held_out
        Names of the images for validation, or their share, 0 to 1 (0: none).
    seed
        Seed that selects the validation images for a share.

    Raises
    ------
    TrainingError
        If nothing is corrected, or a store belongs to another image.
    """
    pairs = image_pairs(images, stores)
    names = list(_distinct([image.name for image, _ in pairs]))
    counts = [_counts(store) for _, store in pairs]
    used = [n for n, count in enumerate(counts) if count]
    if not used:
        raise TrainingError(
            "Nothing was corrected.", "Correct or paint labels, then train."
        )
    legend = Legend(())
    for n in used:
        own = pairs[n][1].legend
        legend = legend.merged(own.without({c.id for c in own} - counts[n].keys()))
    scenes = [
        Scene(names[n], image, CorrectedLabels(store, _channels(store, legend)))
        for n in used
        for image, store in (pairs[n],)
    ]
    kept = held_out_names([scene.name for scene in scenes], held_out, seed)
    left = [name for n, name in enumerate(names) if n not in used]
    return SceneDataset(
        legend=legend,
        training=tuple(s for s in scenes if s.name not in kept),
        held_out=tuple(s for s in scenes if s.name in kept),
        sampling={"class_balanced": 1.0},
        pixel_counts={
            names[n]: tuple(_by_class(pairs[n][1], counts[n], legend)) for n in used
        },
        warnings=_warning_of(left),
    )


def _warning_of(left: Sequence[str]) -> tuple[str, ...]:
    """Return a message about images without corrections; none without them."""
    if not left:
        return ()
    return (
        f"left out because of missing corrections: {counted(len(left), 'image')} "
        f"({', '.join(left[:5])}{', …' if len(left) > 5 else ''})",
    )


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Yield the names; a number follows those that occurred before."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def _counts(store: LabelStore) -> dict[int, int]:
    """Return the corrected pixels by displayed class id; only corrections are read."""
    if not np.any(read_array(store.correction[-1], ...)):
        return {}
    found = CorrectionCounts.from_array(store.correction[0], store.path, COUNT_CELL)
    known = {c.id for c in store.legend}
    return {k: n for k, n in found.by_class(store.aliases).items() if k in known}


def _by_class(
    store: LabelStore, counts: dict[int, int], legend: Legend
) -> Iterator[int]:
    """Yield the corrected pixels of each class of the data set."""
    channels = _channels(store, legend)
    for k, _ in enumerate(legend):
        yield sum(n for i, n in counts.items() if channels[i] == k)


def _channels(store: LabelStore, legend: Legend) -> npt.NDArray[np.uint8]:
    """Return the (256,) index in a legend of each class id of a store; 255: none."""
    index: dict[LabelClass | None, int] = {c: k for k, c in enumerate(legend)}
    shown = {c.id: index.get(legend.named(c.name), IGNORED) for c in store.legend}
    found = np.full(256, IGNORED, np.uint8)
    for i in {*shown, *store.aliases}:  # also deleted classes
        found[i] = shown.get(store.aliases.get(i, i), IGNORED)
    return found
