"""Simulated user, who paints over the worst mistakes in the labels of a model."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi

Labels = npt.NDArray[np.uint8]
UNKNOWN = 0
"""Class id of a pixel whose true class is not known."""


def worst_places(
    wrong: npt.NDArray[np.bool_], count: int, radius: int
) -> list[tuple[int, int]]:
    """Return the centres of the discs with most wrong pixels.

    Parameters
    ----------
    wrong
        (height, width), true where the label is wrong.
    count
        The largest number of centres.
    radius
        The radius of a disc in pixels. Discs do not touch each other.

    Returns
    -------
    list of tuple
        Rows and columns.
    """
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
    """Correct the worst places; return the number of painted pixels.

    A stroke is a disc of one class, the one that most of its wrong pixels should have;
    only pixels of that class are painted.

    Parameters
    ----------
    store
        The label store that gets the corrections.
    truth, shown
        (height, width) class ids of the store: the true ones, and the labels.
    allowed
        (height, width), true where the user paints.
    strokes, radius
        The number of strokes, and their radius in pixels.
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
    """Return the corrections of the whole image; 0 where there is none."""
    return np.asarray(store.correction[0][:], np.uint8)
