"""A simulated person, who paints over the worst mistakes of what a model labelled."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi

Labels = npt.NDArray[np.uint8]
UNKNOWN = 0
"""In a truth of class ids: a pixel that nobody knows."""


def worst_places(
    wrong: npt.NDArray[np.bool_], count: int, radius: int
) -> list[tuple[int, int]]:
    """Centres of the discs that hold most wrong pixels, no two touching each other."""
    share = uniform_filter(wrong.astype(np.float32), 2 * radius + 1, mode="constant")
    found = []
    for _ in range(count):
        y, x = np.unravel_index(int(share.argmax()), share.shape)
        if share[y, x] <= 0:
            break
        found.append((int(y), int(x)))
        near = Roi(int(y), int(x), 1, 1).grow(4 * radius)
        near = near.intersect(Roi(0, 0, *wrong.shape))
        share[near.slices] = 0
    return found


def paint(
    store: LabelStore,
    truth: Labels,
    shown: Labels,
    allowed: npt.NDArray[np.bool_],
    strokes: int,
    radius: int,
) -> int:
    """Correct the worst places; returns how many pixels were painted.

    A stroke is a disc of one class: the one that most of its wrong pixels should have;
    only pixels of that class are painted. ``truth`` and ``shown`` are class ids of the
    store, of the whole image.
    """
    known = read_correction(store)
    wrong = (truth != shown) & allowed & (truth != UNKNOWN) & (known == 0)
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = yy**2 + xx**2 <= radius**2
    painted = 0
    for y, x in worst_places(wrong, strokes, radius):
        whole = Roi(y - radius, x - radius, *disc.shape)
        roi = whole.intersect(Roi(0, 0, *truth.shape))
        meant = disc[roi.shift(-whole.y, -whole.x).slices] & allowed[roi.slices]
        should = truth[roi.slices]
        counts = np.bincount(should[meant & wrong[roi.slices]], minlength=256)
        chosen = meant & (should == counts.argmax())
        before = known[roi.slices]
        data = np.where(chosen, should, before).astype(np.uint8)
        known[roi.slices] = data
        write_levels(store.correction, roi, data, coarser_labels)
        painted += int(chosen.sum())
    return painted


def read_correction(store: LabelStore) -> Labels:
    return np.asarray(store.correction[0][:], np.uint8)
