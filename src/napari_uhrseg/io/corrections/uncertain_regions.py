"""Where to look next: what is segmented, not corrected, and least certain."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import CorrectedRegion, Roi

CELLS = 512  # cells a side at most
SMALLEST = 16  # level-0 pixels a side of a cell
SHARE = 0.05  # of the cells that count as uncertain
LARGEST = 1024  # level-0 pixels a side of a place (or 16 cells); larger is cut

Cells = npt.NDArray[np.float64]


def find_uncertain_regions(
    store: LabelStore, seen: Collection[Roi] = ()
) -> tuple[CorrectedRegion, ...]:
    """The regions of lowest confidence, the largest first.

    Looked for in cells of 16 or more pixels a side, from the coarsest levels, which
    are in memory: nothing is read but those, whatever the image's size. A twentieth
    of the cells that are segmented and hold no correction counts as uncertain.

    Parameters
    ----------
    seen
        Places that are not to come again: what they cover half of is left out.

    Returns
    -------
    Places with a score, 1 for no confidence at all. None where everything is alike.
    """
    from skimage.measure import label, regionprops

    confidence, corrected = store.coarsest_confidence(), store.coarsest_corrections()
    scale = 1 << (len(store.confidence) - 1)
    side = max(1, SMALLEST // scale)
    while max(confidence.shape) > side * CELLS:
        side *= 2
    total, count = (_summed(x, side) for x in (confidence, confidence != 0))
    free = (count > 0) & (_summed(corrected != 0, side) == 0)
    if not free.any():
        return ()
    mean = total / np.maximum(count, 1)
    limit, most = np.quantile(mean[free], SHARE), mean[free].max()
    low = free & (mean <= limit if limit < most else mean < most)
    most = max(16, LARGEST // (side * scale))
    regions = label(_cut(label(low, connectivity=2), most), connectivity=2)
    places = []
    for region in regionprops(regions, mean):
        top, left, bottom, right = (n * side * scale for n in region.bbox)
        roi = Roi(top, left, bottom - top, right - left)
        roi = roi.intersect(Roi(0, 0, *store.shape))
        if not any(roi.intersect(s).area * 2 >= roi.area for s in seen):
            score = 1 - float(region.intensity_mean) / 255
            places.append((region.area, CorrectedRegion(roi, score=score)))
    return tuple(p for _, p in sorted(places, key=lambda x: (-x[0], -x[1].score)))


def _summed(data: npt.NDArray, side: int) -> Cells:
    """Sums over cells of ``side`` squared, what sticks out taken as 0."""
    rows = np.add.reduceat(data, np.arange(0, data.shape[0], side), 0, np.float64)
    return np.asarray(np.add.reduceat(rows, np.arange(0, data.shape[1], side), 1))


def _cut(regions: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Regions too large to look at cut by a grid: their pieces get other numbers."""
    from skimage.measure import regionprops

    large = np.zeros(int(regions.max()) + 1, bool)
    for region in regionprops(regions):
        top, left, bottom, right = region.bbox
        large[region.label] = max(bottom - top, right - left) > most
    rows, columns = (np.arange(n) // most for n in regions.shape)
    block = rows[:, None] * (columns[-1] + 1) + columns
    return regions * (int(block.max()) + 1) + np.where(large[regions], block, 0)
