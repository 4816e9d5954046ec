"""Shown labels from top to bottom, and the connected objects in them.

Memory is bounded whatever the image's height: `read_strips` holds some 64 MB of
labels, `Follower` some 30 bytes a pixel of the strip it is at (a million pixels, or
16 rows) and a few numbers for each object that crosses the strip's lower edge.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.types import Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

HELD = 1 << 26  # bytes of labels read at once, where the width allows it
STRIP = 1 << 20  # pixels looked at at once
COLUMNS = 4 * STORE_CHUNK  # read together: reading takes three times what is read

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
    height = STORE_CHUNK
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
    return store.read_labels(
        Roi(roi.y * f, roi.x * f, roi.height * f, roi.width * f), level
    )


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
    cut
        bool (width,): where the object above was ended with that row, although it goes
        on; see `Follower.follow`.
    divided
        bool (count,): which objects were so ended, or begin right below one.
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
    cut: npt.NDArray[np.bool_]
    divided: npt.NDArray[np.bool_]
    count: int
    carried: Numbers
    open: Numbers


class Follower:
    """Numbers the connected objects of strips that follow each other downwards."""

    def __init__(self) -> None:
        self._open = 0
        self._labels: Labels | None = None  # of the lowest row so far
        self._objects: Numbers | None = None

    def follow(
        self, roi: Roi, labels: Labels, sizes: Numbers | None = None, most: int = 0
    ) -> Strip:
        """The strip right below the last one; uint8 labels of the roi's shape.

        Parameters
        ----------
        sizes, most
            Of each object that is open, and of what may be joined: where the open
            parts of an object come to more together, they end above this strip, and
            below them it begins anew. Without sizes nothing is ended.
        """
        from skimage.measure import label

        local, found = label(labels, background=0, connectivity=1, return_num=True)
        opened, nodes = self._open, self._open + int(found)
        if self._labels is None or self._objects is None:
            self._labels = np.zeros(roi.width, np.uint8)
            self._objects = np.full(roi.width, -1, np.int64)
        above, below = self._objects, local[0] - 1 + opened
        meet = (self._labels == labels[0]) & (labels[0] > 0)
        count, number = _joined(above[meet], below[meet], nodes)
        ended = np.zeros(nodes + 1, bool)  # one more for -1, which is no object
        begins = np.zeros(nodes, bool)
        if sizes is not None:
            heavy = np.bincount(number[:opened], sizes, count) > most
            over = meet.copy()
            over[meet] = heavy[number[above[meet]]]
            if over.any():
                ended[above[over]] = begins[below[over]] = True
                meet &= ~over
                count, number = _joined(above[meet], below[meet], nodes)
        divided = np.zeros(count, bool)
        divided[number[ended[:-1] | begins]] = True
        objects = np.concatenate([[-1], number[opened:]])[local]
        bottom = objects[-1]
        still = np.unique(bottom[bottom >= 0])
        carried = number[:opened]
        self._labels, self._open = labels[-1].copy(), len(still)
        self._objects = np.where(bottom < 0, -1, np.searchsorted(still, bottom))
        before = np.concatenate([carried, [-1]])[above]
        cut = ended[above]
        return Strip(roi, labels, objects, before, cut, divided, count, carried, still)


def _joined(one: Numbers, other: Numbers, nodes: int) -> tuple[int, Numbers]:
    """How many objects there are once these are one each; each node's number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(one), bool)
    graph = coo_array((ones, (one, other)), shape=(nodes, nodes))
    count, number = connected_components(graph, directed=False)
    return count, number.astype(np.int64)


def follow_objects(strips: Iterable[tuple[Roi, Labels]]) -> Iterator[Strip]:
    """All strips with their objects, none ended before its last pixel."""
    follower = Follower()
    return (follower.follow(roi, labels) for roi, labels in strips)
