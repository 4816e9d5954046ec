"""Shown labels from top to bottom, and the connected objects in them.

Memory is bounded whatever the image's height: `read_strips` holds some 64 MB of
labels, `follow_objects` some 30 bytes a pixel of the strip it is at (4 million
pixels) and a few numbers for each object that crosses the strip's lower edge.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.runs import CHUNK
from napari_uhrseg.types import Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels import LabelStore

HELD = 1 << 26  # bytes of labels read at once, where the width allows it
STRIP = 1 << 22  # pixels looked at at once
COLUMNS = 4 * CHUNK  # read together: reading takes three times what is read

Numbers = npt.NDArray[np.int64]


def read_strips(
    store: "LabelStore", roi: Roi, level: int = 0
) -> Iterator[tuple[Roi, Labels]]:
    """The shown labels of a rectangle, as strips of its whole width.

    Parameters
    ----------
    store
        May be read-only, and written by others meanwhile.
    roi
        In pixels of the level, inside it.
    level
        Of the pyramid.

    Yields
    ------
    The strip's place (pixels of the level) and its labels, uint8. Each chunk is
    decoded once in images up to 65,536 pixels wide.
    """
    height = CHUNK
    while height > 64 and height * roi.width > HELD:
        height //= 2
    for top in range(roi.y // height * height, roi.bottom, height):
        band = Roi(top, roi.x, height, roi.width).intersect(roi)
        labels = np.empty((band.height, band.width), np.uint8)
        for left in range(roi.x // COLUMNS * COLUMNS, roi.right, COLUMNS):
            part = Roi(band.y, left, band.height, COLUMNS).intersect(band)
            labels[:, part.x - roi.x : part.right - roi.x] = _shown(store, part, level)
        rows = max(16, STRIP // max(1, roi.width))
        for y in range(0, band.height, rows):
            some = labels[y : y + rows]
            yield Roi(band.y + y, roi.x, some.shape[0], roi.width), some


def _shown(store: "LabelStore", roi: Roi, level: int) -> Labels:
    f = 2**level
    return store.shown(Roi(roi.y * f, roi.x * f, roi.height * f, roi.width * f), level)


@dataclass(frozen=True, slots=True)
class Strip:
    """A strip of labels, and which object each pixel belongs to.

    An object is what is connected by pixels' sides and of one class. They are
    numbered from 0 in each strip anew, those that came in from above among them.

    Attributes
    ----------
    roi, labels
        The strip's place; uint8 of its shape, 0 for no class.
    objects
        int64 of its shape; -1 where the label is 0.
    above
        int64 (width,): the objects of the row above the strip, -1 for none.
    count
        How many objects the strip touches, those above included.
    carried
        Number, in this strip, of each object that was ``open`` in the last one.
    open
        The objects that reach the strip's lowest row, and may go on below.
    """

    roi: Roi
    labels: Labels
    objects: Numbers
    above: Numbers
    count: int
    carried: Numbers
    open: Numbers


def follow_objects(strips: Iterable[tuple[Roi, Labels]]) -> Iterator[Strip]:
    """Number the connected objects of strips that follow each other downwards."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from skimage.measure import label

    last: tuple[Labels, Numbers] | None = None
    opened = 0
    for roi, labels in strips:
        local, found = label(labels, background=0, connectivity=1, return_num=True)
        nodes = opened + int(found)
        above_labels, above = last or (
            np.zeros(roi.width, np.uint8),
            np.full(roi.width, -1, np.int64),
        )
        meet = (above_labels == labels[0]) & (labels[0] > 0)
        pairs = above[meet], local[0][meet] - 1 + opened
        ones = np.ones(len(pairs[0]), bool)
        graph = coo_array((ones, pairs), shape=(nodes, nodes))
        count, number = connected_components(graph, directed=False)
        number = number.astype(np.int64)
        objects = np.concatenate([[-1], number[opened:]])[local]
        bottom = objects[-1]
        still = np.unique(bottom[bottom >= 0])
        carried = number[:opened]
        yield Strip(
            roi, labels, objects, _looked_up(carried, above), count, carried, still
        )
        places = np.searchsorted(still, bottom)
        last = labels[-1].copy(), np.where(bottom < 0, -1, places).astype(np.int64)
        opened = len(still)


def _looked_up(table: Numbers, at: Numbers) -> Numbers:
    return np.concatenate([table, [-1]])[at]
