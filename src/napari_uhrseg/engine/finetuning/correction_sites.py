"""Where corrections lie: places apart from each other, points to draw windows at."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.measure import label as connected

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import IGNORED, Roi

MAX_PIXELS_READ = 1 << 26  # pixels of the correction that are looked at for points
MAX_POINTS_PER_CLASS = 20_000  # points of a class that are kept
MIN_SITES = 4  # places; fewer say nothing about ground that was not learnt from
HELD_OUT_FRACTION = 0.2  # of the places are held out
MIN_TRAINING_FRACTION = 0.5  # of a class's points at least teach, where places allow it
MIN_SITE_DISTANCE = 32  # pixels that places are apart at least
SITE_GRID = 128  # pixels that a place's middle may move without being another

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Points:
    """Corrected pixels: (n, 2) int64 y and x in level-0 pixels, (n,) channel, place."""

    at: Ints
    channel: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Points":
        return Points(self.at[chosen], self.channel[chosen], self.place[chosen])


@dataclass(frozen=True, slots=True)
class SiteGrid:
    """Where corrections lie together: a grid of cells, each with its place's number.

    ``side`` of a cell in level-0 pixels; ``number`` (rows, columns) int32, 0: none.
    Two places have a cell between them. ``apart``: whether that is as far as two
    windows see.
    """

    side: int
    number: npt.NDArray[np.int32]
    apart: bool

    @property
    def count(self) -> int:
        return int(self.number.max(initial=0))

    def of(self, roi: Roi) -> npt.NDArray[np.int32]:
        """The place of each pixel of a level-0 rectangle inside the image."""
        rows = np.arange(roi.y, roi.bottom) // self.side
        columns = np.arange(roi.x, roi.right) // self.side
        return self.number[np.ix_(rows, columns)]


def find_sites(store: LabelStore, wanted: float) -> SiteGrid:
    """The places of a store's corrections, ``wanted`` pixels apart if possible.

    Where that leaves fewer than `MIN_SITES` of them, they may be closer. Reads the
    coarsest level only.
    """
    top = read_array(store.correction[-1], ...) != 0
    pixel = 2 ** (len(store.correction) - 1)
    ys, xs = np.nonzero(top)
    side = full = max(int(np.ceil(wanted)), pixel)
    while True:
        cells = np.zeros([-(-n // side) for n in store.shape], bool)
        for dy in (0, pixel - 1):
            for dx in (0, pixel - 1):
                rows = np.minimum((ys * pixel + dy) // side, cells.shape[0] - 1)
                columns = np.minimum((xs * pixel + dx) // side, cells.shape[1] - 1)
                cells[rows, columns] = True
        number = np.asarray(connected(cells, connectivity=2), np.int32)
        smaller = max(side // 2, min(MIN_SITE_DISTANCE, full), pixel)
        if number.max(initial=0) >= MIN_SITES or smaller == side:
            return SiteGrid(side, number, side == full)
        side = smaller


def find_points(
    store: LabelStore, channels: npt.NDArray[np.uint8], places: SiteGrid
) -> Points:
    """Corrected pixels that a window can be drawn around.

    Of the finest level that can be read without looking at more than `READ` pixels.
    Memory is bounded by `KEPT`, whatever the size of the image.
    """
    level = coarsest = len(store.correction) - 1
    top = np.nonzero(read_array(store.correction[-1], ...))
    chunks = _chunks(top, coarsest, level)
    while level:
        finer = _chunks(top, coarsest, level - 1)
        if len(finer) * STORE_CHUNK**2 > MAX_PIXELS_READ:
            break
        level, chunks = level - 1, finer
    found: dict[int, list[Ints]] = {}
    array = store.correction[level]
    for row, column in chunks.tolist():
        part = Roi(row * STORE_CHUNK, column * STORE_CHUNK, STORE_CHUNK, STORE_CHUNK)
        values = channels[read_array(array, part.slices)]
        for channel in np.unique(values[values != IGNORED]).tolist():
            at = np.argwhere(values == channel) + np.array((part.y, part.x))
            found.setdefault(channel, []).append(
                _thinned(at, MAX_POINTS_PER_CLASS // 4)
            )
    kept = [
        _thinned(np.concatenate(found[k]), MAX_POINTS_PER_CLASS) for k in sorted(found)
    ]
    if not kept:
        none = np.zeros(0, np.int64)
        return Points(np.zeros((0, 2), np.int64), none, none)
    whole = np.minimum(
        np.concatenate(kept) * 2**level + 2**level // 2, np.array(store.shape) - 1
    )
    rows, columns = (whole // places.side).T
    channel = np.repeat(sorted(found), [len(a) for a in kept]).astype(np.int64)
    return Points(whole, channel, places.number[rows, columns].astype(np.int64))


def labelled_squares(store: LabelStore) -> tuple[Ints, int]:
    """Squares of ground that has labels, all of the image where none has any.

    (n, 2) int64 y and x of their corners and their side, in level-0 pixels: the pixels
    of the coarsest level, which is all that is read and kept.
    """
    side = 2 ** (len(store.prediction) - 1)
    there = read_array(store.prediction[-1], ...) != 0
    return np.argwhere(there if there.any() else ~there) * side, side


def choose_held_out(points: Points, count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the places 1 to ``count`` are held out; none where there are too few.

    No class is held out whole, nor more than half of its points if there is a choice.
    Classes not held out yet go first; else what a place's position says, so that a
    place stays on its side while others are added.
    """
    held = np.zeros(count + 1, bool)
    there = np.unique(points.place)
    if len(there) < MIN_SITES:
        return held
    found = np.zeros((count + 1, 256), np.int64)
    np.add.at(found, (points.place, points.channel), 1)
    has, most = found > 0, (1 - MIN_TRAINING_FRACTION) * found.sum(0)
    wanted = max(1, round(HELD_OUT_FRACTION * len(there)))

    def luck(place: int) -> bytes:
        y, x = points.at[points.place == place].mean(0) // SITE_GRID
        return hashlib.sha256(f"{seed} {y} {x}".encode()).digest()

    order = sorted(there.tolist(), key=luck)
    for _ in range(wanted):
        left = has[~held].sum(0)
        shown = has[held].any(0)
        free = [p for p in order if not held[p] and (left[has[p]] > 1).all()]
        if not free:
            break
        much = has & (found + found[held].sum(0) > most)
        held[min(free, key=lambda p: (much[p].any(), -(has[p] & ~shown).sum()))] = True
    return held


def _chunks(top: tuple[Ints, ...], level: int, at: int) -> Ints:
    """(n, 2) chunks of level ``at`` under the pixels of a coarser level."""
    return np.unique(np.c_[top] * 2 ** (level - at) // STORE_CHUNK, axis=0)


def _thinned(points: Ints, most: int) -> Ints:
    """Evenly chosen ones, at most so many."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).astype(np.int64)]
