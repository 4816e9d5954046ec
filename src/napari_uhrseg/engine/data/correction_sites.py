"""Corrected pixels, and the separate sites that contain them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from skimage.measure import label as connected

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import IGNORED, Roi

MAX_PIXELS_READ = 1 << 26  # correction pixels that are read to find points
MAX_POINTS_PER_CLASS = 20_000  # points kept for each class
MIN_SITES = 4  # for validation
MIN_SITE_DISTANCE = 32  # pixels between two sites
CELLS_OF_DISTANCE = 9  # cells of the grid in the distance of two sites

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Points:
    """Corrected pixels: (n, 2) int64 y, x in level-0 pixels, (n,) channel and site."""

    at: Ints
    channel: Ints
    site: Ints

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Points":
        return Points(self.at[chosen], self.channel[chosen], self.site[chosen])


@dataclass(frozen=True, slots=True)
class SiteGrid:
    """Sites of corrections: a grid of cells, each with the number of its site.

    Parameters
    ----------
    side
        Side of a cell in level-0 pixels.
    number
        (rows, columns) int32 number of the site of each cell; 0: no site. Cells near
        corrections of a site also have its number.
    disjoint
        True if no window of one site contains pixels of another site.
    """

    side: int
    number: npt.NDArray[np.int32]
    disjoint: bool

    @property
    def count(self) -> int:
        return int(self.number.max(initial=0))

    def of(self, roi: Roi) -> npt.NDArray[np.int32]:
        """Return the site of each pixel of a level-0 rectangle inside the image."""
        rows = np.arange(roi.y, roi.bottom) // self.side
        columns = np.arange(roi.x, roi.right) // self.side
        return self.number[np.ix_(rows, columns)]


def find_sites(store: LabelStore, distance: float, separation: float) -> SiteGrid:
    """Return the sites of a store's corrections, more than ``distance`` pixels apart.

    Corrections that touch or are closer belong to one site. They may be closer if there
    are fewer than `MIN_SITES` otherwise. Only the coarsest level is read.

    Parameters
    ----------
    store
        The labels.
    distance
        Smallest distance of two sites in level-0 pixels, above 0.
    separation
        Distance in level-0 pixels from which windows of two sites share no pixel.
    """
    shortest = min(MIN_SITE_DISTANCE, distance)
    found = _sites(store, distance)
    while found.count < MIN_SITES and distance > shortest:
        distance = max(distance / 2, shortest)
        found = _sites(store, distance)
    apart = separation <= distance or _sites(store, separation).count == found.count
    return replace(found, disjoint=apart)


def _sites(store: LabelStore, distance: float) -> SiteGrid:
    """Return the sites of corrections that are more than ``distance`` pixels apart.

    Each corrected cell of a grid is dilated by half of the distance.
    """
    pixel = 2 ** (len(store.correction) - 1)
    ys, xs = np.nonzero(read_array(store.correction[-1], ...))
    side = max(math.ceil(distance / CELLS_OF_DISTANCE), pixel)
    cells = np.zeros([-(-n // side) for n in store.shape], bool)
    for dy in (0, pixel - 1):
        for dx in (0, pixel - 1):
            rows = np.minimum((ys * pixel + dy) // side, cells.shape[0] - 1)
            columns = np.minimum((xs * pixel + dx) // side, cells.shape[1] - 1)
            cells[rows, columns] = True
    radius = max(0, math.ceil((distance / side - 1) / 2))
    near = maximum_filter(cells, 2 * radius + 1, mode="constant")
    number = np.asarray(connected(near, connectivity=2), np.int32)
    return SiteGrid(side, number, disjoint=True)


def find_points(
    store: LabelStore,
    channels: npt.NDArray[np.uint8],
    sites: SiteGrid,
    choose: Callable[[Ints, int], Ints] | None = None,
) -> Points:
    """Return corrected pixels around which windows can be drawn.

    They are read from the finest level with at most `MAX_PIXELS_READ` pixels. Memory is
    bounded by `MAX_POINTS_PER_CLASS` for every image size.

    Parameters
    ----------
    store
        The labels.
    channels
        (256,) uint8 channel of each class id, 255: none.
    sites
        Sites of the corrections.
    choose
        Function that chooses a number of points; ``None``: `thinned`.
    """
    choose = choose or thinned
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
            found.setdefault(channel, []).append(choose(at, MAX_POINTS_PER_CLASS // 4))
    kept = [
        choose(np.concatenate(found[k]), MAX_POINTS_PER_CLASS) for k in sorted(found)
    ]
    if not kept:
        none = np.zeros(0, np.int64)
        return Points(np.zeros((0, 2), np.int64), none, none)
    whole = np.minimum(
        np.concatenate(kept) * 2**level + 2**level // 2, np.array(store.shape) - 1
    )
    rows, columns = (whole // sites.side).T
    channel = np.repeat(sorted(found), [len(a) for a in kept]).astype(np.int64)
    return Points(whole, channel, sites.number[rows, columns].astype(np.int64))


def labelled_squares(store: LabelStore) -> tuple[Ints, int]:
    """Return squares of the labelled area; of the whole image without labels.

    Returns
    -------
    tuple
        (n, 2) int64 y and x of the corners, and the side, in level-0 pixels. A square
        is a pixel of the coarsest level, the only one that is read.
    """
    side = 2 ** (len(store.prediction) - 1)
    there = read_array(store.prediction[-1], ...) != 0
    return np.argwhere(there if there.any() else ~there) * side, side


def _chunks(top: tuple[Ints, ...], level: int, at: int) -> Ints:
    """Return the (n, 2) chunks of level ``at`` for pixels of a coarser level."""
    return np.unique(np.c_[top] * 2 ** (level - at) // STORE_CHUNK, axis=0)


def thinned(points: Ints, most: int) -> Ints:
    """Return at most ``most`` evenly spaced points."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).astype(np.int64)]


def sampled(points: Ints, most: int) -> Ints:
    """Return at most ``most`` points, chosen by a hash of the position.

    A point that is added later replaces at most one of them, so that features of the
    others can be kept.
    """
    if len(points) <= most:
        return points
    hashed = _mixed(_mixed(points[:, 0].astype(np.uint64)) + points[:, -1].astype("u8"))
    return points[np.sort(np.argpartition(hashed, most)[:most])]


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return hashes of integers (the finalizer of SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
