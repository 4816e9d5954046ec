"""Clean-up of the displayed labels as corrections, and its preview in a rectangle."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.cleanup.clean_labels import clean_labels, size_in_pixels
from napari_uhrseg.io.cleanup.majority import majority_strips
from napari_uhrseg.io.cleanup.sieve import sieve_strips
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import BoolMask, CleanUp, Labels, Roi

FILTERED = 0.7  # share of the work before the corrections are written
TILE = 1024  # pixels a side that are compared at a time
MAX_PREVIEW = 4096  # pixels a side
MARGIN = 256  # pixels around the rectangle of a preview that take part


class CleanedReader:
    """Reader, in tiles, of the pixels that a clean-up changes.

    Attributes
    ----------
    at
        Level-0 rectangle of the image.
    side
        Best side of a tile.
    """

    def __init__(self, store: LabelStore, cleaned: LabelStore) -> None:
        self._store, self._cleaned = store, cleaned
        self.at, self.side = Roi(0, 0, *store.shape), TILE

    def read(self, tile: Roi, _table: Mapping[int, int]) -> tuple[BoolMask, Labels]:
        """Return which pixels get another class, and the classes, (h, w)."""
        labels = self._cleaned.read_labels(tile)
        changed = (labels != self._store.read_labels(tile)) & (labels > 0)
        return np.asarray(changed), labels


def clean_corrections(corrections: Corrections, clean_up: CleanUp) -> Iterator[float]:
    """Save what a clean-up of the displayed labels changes, as one undo step.

    Pixels that the clean-up leaves without a label keep their label: a correction
    cannot remove one. Memory and temporary files are those of `clean_labels`.

    Parameters
    ----------
    corrections
        Corrections, open for writing.
    clean_up
        What to clean up.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.

    Raises
    ------
    UhrSegError
        If a size is not in pixels, and the pixel size is unknown.
    StoreError
        If the labels changed while they were filtered. Nothing is written then.
    """
    store = corrections.store
    before = store.chunk_status(), corrections.version
    with TemporaryDirectory(prefix="napari-uhrseg-") as folder:
        path = None
        for step in clean_labels(store, clean_up, Path(folder)):
            if isinstance(step, float):
                yield FILTERED * step
            else:
                path = step
        same = np.array_equal(store.chunk_status(), before[0])
        if path is None or not same or corrections.version != before[1]:
            raise StoreError(
                "The labels changed during the clean-up; nothing was changed by it.",
                "Wait until the run has finished, and clean up again.",
            )
        with LabelStore.open(path) as cleaned:
            reader = CleanedReader(store, cleaned)
            for share in corrections.import_labels(reader, {}):
                yield FILTERED + (1 - FILTERED) * share


def preview_clean_up(store: LabelStore, clean_up: CleanUp, roi: Roi) -> Labels:
    """Return the labels of a rectangle after a clean-up of its surroundings.

    Objects that reach further than 256 pixels around the rectangle count as smaller
    than they are.

    Parameters
    ----------
    store
        The label store.
    clean_up
        What to clean up.
    roi
        Level-0 pixels in the image, at most 4096 a side.

    Raises
    ------
    ValueError
        If the rectangle is larger.
    UhrSegError
        If a size is not in pixels, and the pixel size is unknown.
    """
    if max(roi.height, roi.width) > MAX_PREVIEW:
        raise ValueError(f"a preview of {roi}")
    around = roi.grow(MARGIN).intersect(Roi(0, 0, *store.shape))
    labels = store.read_labels(around)
    sizes = np.full(256, size_in_pixels(store, clean_up.min_object))
    sizes[0] = size_in_pixels(store, clean_up.fill_holes)
    if clean_up.majority:
        strips = majority_strips([(around, labels)], clean_up.majority)
        labels = np.concatenate([part for _, part in strips])
    if sizes.any():
        with TemporaryDirectory(prefix="napari-uhrseg-") as folder:
            found = sieve_strips(
                lambda: [(around, labels)], sizes, len(labels), Path(folder)
            )
            labels = next(step[1] for step in found if not isinstance(step, float))
    return labels[roi.shift(-around.y, -around.x).slices]
