"""Ranking of uncorrected regions by uncertainty.

This is uncertainty sampling, the basic form of active learning (Lewis and Gale,
"A sequential algorithm for training text classifiers", SIGIR 1994): the user is shown
the regions where the margin between the two best classes is smallest.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi, UncertainRegion

MAX_CELLS = 512  # cells per side of the grid
MIN_CELL = 16  # level-0 pixels, side of a cell
UNCERTAIN_FRACTION = 0.05  # of the candidate cells
MAX_REGION = 1024  # level-0 pixels per side (or 16 cells); larger regions are divided

Cells = npt.NDArray[np.float64]


def find_uncertain_regions(
    store: LabelStore, seen: Collection[Roi] = ()
) -> tuple[UncertainRegion, ...]:
    """Return the regions of lowest confidence, the largest first.

    The search uses cells of at least 16 x 16 pixels of the coarsest levels, which are
    in memory. Its cost does not depend on the size of the image. A cell is a
    candidate if it is segmented and has no correction. The least certain twentieth of
    the candidates count as uncertain. No region is returned if all candidates have
    the same confidence.

    Parameters
    ----------
    store
        The label store.
    seen
        Level-0 rectangles that were visited. A region is left out if one of them
        covers at least half of it.
    """
    from skimage.measure import label, regionprops

    confidence, corrected = store.coarsest_confidence(), store.coarsest_corrections()
    scale = 1 << (len(store.confidence) - 1)
    side = max(1, MIN_CELL // scale)
    while max(confidence.shape) > side * MAX_CELLS:
        side *= 2
    total, count = (_cell_sums(x, side) for x in (confidence, confidence != 0))
    free = (count > 0) & (_cell_sums(corrected != 0, side) == 0)
    if not free.any():
        return ()
    mean = total / np.maximum(count, 1)
    limit, most = np.quantile(mean[free], UNCERTAIN_FRACTION), mean[free].max()
    low = free & (mean <= limit if limit < most else mean < most)
    most = max(16, MAX_REGION // (side * scale))
    regions = label(_divide_large(label(low, connectivity=2), most), connectivity=2)
    found = []
    for region in regionprops(regions, mean):
        top, left, bottom, right = (n * side * scale for n in region.bbox)
        roi = Roi(top, left, bottom - top, right - left)
        roi = roi.intersect(Roi(0, 0, *store.shape))
        if not any(roi.intersect(s).area * 2 >= roi.area for s in seen):
            score = 1 - float(region.intensity_mean) / 255
            found.append((region.area, UncertainRegion(roi, score)))
    return tuple(r for _, r in sorted(found, key=lambda x: (-x[0], -x[1].score)))


def _cell_sums(data: npt.NDArray, side: int) -> Cells:
    """Return the sums over cells of ``side x side`` pixels; the last may be smaller."""
    rows = np.add.reduceat(data, np.arange(0, data.shape[0], side), 0, np.float64)
    return np.asarray(np.add.reduceat(rows, np.arange(0, data.shape[1], side), 1))


def _divide_large(regions: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Divide regions larger than ``most`` cells by a grid; each piece gets a number."""
    from skimage.measure import regionprops

    large = np.zeros(int(regions.max()) + 1, bool)
    for region in regionprops(regions):
        top, left, bottom, right = region.bbox
        large[region.label] = max(bottom - top, right - left) > most
    rows, columns = (np.arange(n) // most for n in regions.shape)
    block = rows[:, None] * (columns[-1] + 1) + columns
    return regions * (int(block.max()) + 1) + np.where(large[regions], block, 0)
