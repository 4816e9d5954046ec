"""Strips of displayed labels from top to bottom, and their connected objects.

Memory does not depend on the image's height. `read_strips` needs about 64 MB of
labels. `ObjectTracker` needs about 30 bytes per pixel of the current strip (a million
pixels, or 16 rows) and a few numbers per object that crosses its lower edge.

Objects are labelled by connected components with 4-connectivity. Components of
neighbouring strips are joined over their common edge (two-pass labelling).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


IntArray = npt.NDArray[np.int64]


def read_strips(
    store: "LabelStore",
    roi: Roi,
    limits: VectorLimits = VectorLimits(),
    width: int | None = None,
) -> Iterator[tuple[Roi, Labels]]:
    """Yield the displayed labels of a rectangle, in strips of its full width.

    Parameters
    ----------
    store
        A label store. It may be read-only, and another process may write to it.
    roi
        Rectangle in level-0 pixels, inside the image.
    limits
        Sizes of the reads and of the strips.
    width
        Width in pixels from which the rows of a strip are computed. Default: that of
        the rectangle. Parts of one image have the strips of the image with its width.

    Yields
    ------
    roi, labels
        Rectangle of the strip and its labels (height, width), uint8. Each chunk is
        decoded once in images up to 65,536 pixels wide.
    """
    width = max(1, width or roi.width)
    height = STORE_CHUNK
    while height > 64 and height * width > limits.band_bytes:
        height //= 2
    rows = max(16, limits.strip_pixels // width)
    for top in range(roi.y // height * height, roi.bottom, height):
        band = Roi(top, roi.x, height, roi.width).intersect(roi)
        labels = np.empty((band.height, band.width), np.uint8)
        columns = limits.read_columns
        for left in range(roi.x // columns * columns, roi.right, columns):
            part = Roi(band.y, left, band.height, columns).intersect(band)
            labels[:, part.x - roi.x : part.right - roi.x] = store.read_labels(part)
        for y in range(0, band.height, rows):
            some = labels[y : y + rows]
            yield Roi(band.y + y, roi.x, some.shape[0], roi.width), some


def written_parts(
    store: "LabelStore", roi: Roi, border: int = 0
) -> tuple[list[Roi], list[Roi]]:
    """Divide a rectangle into parts that may have labels, and parts without any.

    Parameters
    ----------
    store
        A label store.
    roi
        Rectangle in level-0 pixels, inside the image.
    border
        Pixels without labels around the parts, inside the rectangle: 0 or 1.

    Returns
    -------
    written
        Parts of equal width from top to bottom. The last row of a part that another
        part follows has no labels, so no object reaches from one into the next.
    empty
        The rest of the rectangle: only chunks without a file.
    """
    from napari_uhrseg.io.labels.store_files import written_chunks  # loads zarr

    there = written_chunks(store.path, store.prediction[0])
    there |= written_chunks(store.path, store.correction[0])
    chunks = roi.at_scale(STORE_CHUNK)
    there = there[chunks.slices]
    if not there.any():
        return [], [roi]
    columns = np.flatnonzero(there.any(0)) + chunks.x
    left = max(roi.x, int(columns[0]) * STORE_CHUNK - border)
    right = min(roi.right, int(columns[-1] + 1) * STORE_CHUNK + border)
    written, empty, done = [], [], roi.y
    edges = np.flatnonzero(np.diff(np.pad(there.any(1).astype(int), 1))) + chunks.y
    for first, end in edges.reshape(-1, 2).tolist():
        top = max(roi.y, first * STORE_CHUNK - border)
        bottom = min(roi.bottom, end * STORE_CHUNK + 1)
        written.append(Roi(top, left, bottom - top, right - left))
        empty += [
            Roi(done, roi.x, top - done, roi.width),
            Roi(top, roi.x, bottom - top, left - roi.x),
            Roi(top, right, bottom - top, roi.right - right),
        ]
        done = bottom
    empty.append(Roi(done, roi.x, roi.bottom - done, roi.width))
    return written, [part for part in empty if part.area]


@dataclass(frozen=True, slots=True)
class Strip:
    """A strip of labels with the object number of each pixel.

    An object is a 4-connected region of one class. Each strip numbers its objects
    from 0, including those that began above it.

    Attributes
    ----------
    roi
        Rectangle of the strip.
    labels
        uint8 (height, width), 0 for no class.
    objects
        int64 (height, width), -1 where the label is 0.
    above
        int64 (width,), the objects of the row above the strip, -1 for none.
    cut
        bool (width,), True where the object above was divided at the upper edge; see
        `ObjectTracker.track`.
    divided
        bool (count,), True for objects that were divided at the upper edge, on either
        side.
    count
        Number of objects in the strip and in the row above it.
    carried
        int64, the number in this strip of each object of the last strip's ``open``.
    open
        int64, the objects in the lowest row. They may continue below.
    """

    roi: Roi
    labels: Labels
    objects: IntArray
    above: IntArray
    cut: npt.NDArray[np.bool_]
    divided: npt.NDArray[np.bool_]
    count: int
    carried: IntArray
    open: IntArray


class ObjectTracker:
    """Numbering of connected objects over consecutive strips."""

    def __init__(self) -> None:
        self._open = 0
        self._labels: Labels | None = None  # of the lowest row so far
        self._objects: IntArray | None = None

    def track(
        self, roi: Roi, labels: Labels, sizes: IntArray | None = None, most: int = 0
    ) -> Strip:
        """Number the objects of the strip directly below the last one.

        Parameters
        ----------
        roi
            Rectangle of the strip, in pixels.
        labels
            uint8 of the rectangle's shape, 0 for no class.
        sizes
            Size of each open object, in any unit. None: no object is divided.
        most
            Maximum size of an object. Larger ones are divided at the upper edge of
            this strip.

        Returns
        -------
        The strip with the number of the object of each pixel.
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


def _joined(one: IntArray, other: IntArray, nodes: int) -> tuple[int, IntArray]:
    """Return the number of connected components, and the component of each node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(one), bool)
    graph = coo_array((ones, (one, other)), shape=(nodes, nodes))
    count, number = connected_components(graph, directed=False)
    return count, number.astype(np.int64)


def track_objects(strips: Iterable[tuple[Roi, Labels]]) -> Iterator[Strip]:
    """Yield all strips with their objects; no object is divided."""
    tracker = ObjectTracker()
    return (tracker.track(roi, labels) for roi, labels in strips)
