"""Perimeters of connected objects, strip by strip.

The definition is that of `skimage.measure.perimeter` with a neighbourhood of 4 (Benkrid
and Crookes, 2000): each border pixel of an object has a length of 1, sqrt(2) or their
mean, which depends on the border pixels of the same object among its eight neighbours.

Two pixels of one class that share only a corner may belong to one object, which may be
known only when the strips below have been read. The lengths of such pixels wait, summed
for each combination of objects and neighbours, until one of the objects is complete.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.label_strips import IntArray, Strip
from napari_uhrseg.types import BoolMask, Labels

FloatArray = npt.NDArray[np.float64]
STRAIGHT, DIAGONAL = 2, 10  # of each neighbour, in the code of a border pixel
SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
LENGTHS = np.zeros(50)  # of a border pixel, by its code
LENGTHS[[5, 7, 15, 17, 25, 27]] = 1.0
LENGTHS[[21, 33]] = np.sqrt(2)
LENGTHS[[13, 23]] = (1 + np.sqrt(2)) / 2


class _Waiting(NamedTuple):
    """Border pixels whose length depends on objects that may still be joined.

    ``owner`` (n,) is the object, ``others`` (n, 4) are the objects at the corners (-1
    for none), ``code`` (n,) that of the other neighbours, ``size`` (n,) the sum of the
    sizes of the pixels.
    """

    owner: IntArray
    others: IntArray
    code: IntArray
    size: FloatArray


NONE = _Waiting(
    np.zeros(0, np.int64), np.zeros((0, 4), np.int64), np.zeros(0, np.int64),
    np.zeros(0),
)  # fmt: skip


@dataclass(slots=True)
class PerimeterCounter:
    """Perimeters of the objects of consecutive strips.

    Memory: about 40 bytes per border pixel of a strip, and one row for each combination
    of neighbouring unfinished objects.
    """

    _labels: Labels | None = None  # the last three rows
    _second: IntArray | None = None  # open objects of the last row but one
    _size: float = 1.0  # of a pixel of the last row
    _lengths: FloatArray = field(default_factory=lambda: np.zeros(0))
    _waiting: _Waiting = NONE

    def add(self, strip: Strip, below: Labels, sizes: FloatArray) -> FloatArray:
        """Add a strip, and return the perimeters of its objects so far.

        Parameters
        ----------
        strip
            The strip directly below the last one. A strip without labels completes all
            objects.
        below
            uint8 (width,), the labels of the row below the strip.
        sizes
            Side of a pixel in each row of the strip, in any unit.

        Returns
        -------
        float64 (count,), complete for objects that do not reach the lowest row.
        """
        labels, objects = self._window(strip, below)
        is_border = _borders(labels)
        rows, columns = np.nonzero(is_border[1:-1])  # from the row above the strip on
        owner = objects[rows + 1, columns]
        code, open_corners = _codes(labels, is_border, rows, columns)
        size = np.concatenate([[self._size], sizes[:-1]])[rows]
        unclear = open_corners.any(1)
        others = _others(
            objects, rows[unclear], columns[unclear], open_corners[unclear]
        )
        known = ~unclear
        lengths = _total(owner[known], code[known], size[known], strip.count)
        np.add.at(lengths, strip.carried, self._lengths)
        found = _Waiting(owner[unclear], others, code[unclear], size[unclear])
        waiting = _joined(_carried(self._waiting, strip.carried), found)
        self._waiting = _settle(waiting, strip, lengths)
        self._labels = labels[-4:-1, 1:-1].copy()
        self._second = _ranks(strip)[objects[-2, 1:-1]]
        self._size, self._lengths = float(sizes[-1]), lengths[strip.open]
        return lengths

    def _window(self, strip: Strip, below: Labels) -> tuple[Labels, IntArray]:
        """Return labels with three rows above and one below, and objects with two."""
        height, width = strip.labels.shape
        labels = np.zeros((height + 4, width + 2), np.uint8)
        objects = np.full((height + 2, width + 2), -1, np.int64)
        if self._labels is not None and self._second is not None:
            labels[:3, 1:-1] = self._labels
            objects[0, 1:-1] = np.append(strip.carried, -1)[self._second]
        labels[3:-1, 1:-1], labels[-1, 1:-1] = strip.labels, below
        objects[1, 1:-1], objects[2:, 1:-1] = strip.above, strip.objects
        return labels, objects


def _borders(labels: Labels) -> BoolMask:
    """Return the pixels with a side to another object, without the outer rows."""
    middle = labels[1:-1, 1:-1]
    differs = (labels[:-2, 1:-1] != middle) | (labels[2:, 1:-1] != middle)
    differs |= (labels[1:-1, :-2] != middle) | (labels[1:-1, 2:] != middle)
    found = np.zeros((middle.shape[0], labels.shape[1]), bool)
    found[:, 1:-1] = differs & (middle > 0)
    return found


def _codes(
    labels: Labels, is_border: BoolMask, rows: IntArray, columns: IntArray
) -> tuple[IntArray, BoolMask]:
    """Return the codes of border pixels, and their corners (n, 4) of unknown object."""
    width = labels.shape[1]
    flat, border = labels.ravel(), is_border.ravel()
    at = (rows + 2) * width + columns  # in the labels; one row less in the borders
    own = flat.take(at)
    code = np.ones(len(rows), np.int64)
    same: dict[tuple[int, int], BoolMask] = {}
    for dy, dx in SIDES:
        beside = at + (dy * width + dx)
        same[dy, dx] = flat.take(beside) == own
        code += STRAIGHT * (same[dy, dx] & border.take(beside - width))
    unclear = np.zeros((len(rows), 4), bool)
    for i, (dy, dx) in enumerate(CORNERS):
        beside = at + (dy * width + dx)
        alike = (flat.take(beside) == own) & border.take(beside - width)
        joined = same[dy, 0] | same[0, dx]  # through a side of both
        code += DIAGONAL * (alike & joined)
        unclear[:, i] = alike & ~joined
    return code, unclear


def _others(
    objects: IntArray, rows: IntArray, columns: IntArray, there: BoolMask
) -> IntArray:
    """Return the objects at the corners of pixels, -1 where a corner is not asked."""
    found = np.full(there.shape, -1, np.int64)
    for i, (dy, dx) in enumerate(CORNERS):
        found[:, i] = np.where(there[:, i], objects[rows + 1 + dy, columns + dx], -1)
    return found


def _total(owner: IntArray, code: IntArray, size: FloatArray, count: int) -> FloatArray:
    """Return the lengths (count,) of the border pixels of each object."""
    found = np.bincount(owner, LENGTHS[code] * size, count)
    return found.astype(np.float64)  # integers if there are no pixels


def _carried(waiting: _Waiting, carried: IntArray) -> _Waiting:
    """Return waiting pixels with the numbers of the next strip."""
    numbers = np.append(carried, -1)
    return waiting._replace(
        owner=numbers[waiting.owner], others=numbers[waiting.others]
    )


def _joined(one: _Waiting, other: _Waiting) -> _Waiting:
    return _Waiting(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _ranks(strip: Strip) -> IntArray:
    """Return the number of each object among the open ones; -1 for others and none."""
    ranks = np.full(strip.count + 1, -1, np.int64)
    ranks[strip.open] = np.arange(len(strip.open))
    return ranks


def _settle(waiting: _Waiting, strip: Strip, lengths: FloatArray) -> _Waiting:
    """Add the pixels whose objects are known to the lengths; return the others."""
    owner, others, code, size = waiting
    ranks = _ranks(strip)
    same = others == owner[:, None]
    code = code + DIAGONAL * same.sum(1)
    others = np.where(
        same | (ranks[others] < 0) | (ranks[owner] < 0)[:, None], -1, others
    )
    known = (others < 0).all(1)
    lengths += _total(owner[known], code[known], size[known], strip.count)
    left = ~known
    if not left.any():
        return NONE
    rest = np.sort(ranks[others[left]], 1)
    keys = np.column_stack([ranks[owner[left]], rest, code[left]])
    found, which = np.unique(keys, axis=0, return_inverse=True)
    sums = np.bincount(which.ravel(), size[left]).astype(np.float64)
    return _Waiting(found[:, 0], found[:, 1:5], found[:, 5], sums)
