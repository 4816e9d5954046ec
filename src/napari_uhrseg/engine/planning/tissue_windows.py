"""Windows and frames of a run that label tissue; the others do not run."""

import numpy as np

from napari_uhrseg.engine.tiling.tiling import Tiling
from napari_uhrseg.types import BoolMask, Roi, TissueMask
from napari_uhrseg.types.tissue import Spans


def touched_windows(
    grid: Tiling, region: Roi, scale: float, tissue: TissueMask
) -> BoolMask:
    """Return which windows or frames label a pixel of tissue.

    Parameters
    ----------
    grid
        Windows or frames of the whole image.
    region
        Run pixels that get labels.
    scale
        Level-0 pixels for each run pixel, above 0.
    tissue
        Tissue of the image.

    Returns
    -------
    (rows, columns) bool
        The windows or frames that `Tiling.count` counts for the region.
    """
    rows, columns = grid.labelled_spans(region)
    return tissue.touched(_level0(rows, scale), _level0(columns, scale))


def level0_pixels(roi: Roi, scale: float) -> Roi:
    """Return the level-0 pixels that may get their label from run pixels.

    Parameters
    ----------
    roi
        Run pixels.
    scale
        Level-0 pixels for each run pixel, above 0.
    """
    spans = np.array([[roi.y, roi.bottom], [roi.x, roi.right]])
    (y, bottom), (x, right) = _level0(spans, scale).tolist()
    return Roi(y, x, bottom - y, right - x)


def _level0(spans: Spans, scale: float) -> Spans:
    """Return spans in level-0 pixels, with one pixel more at both ends."""
    first, last = spans[:, 0] * scale, spans[:, 1] * scale
    found = np.stack([np.floor(first) - 1, np.ceil(last) + 1], 1)
    return np.asarray(np.maximum(found, 0), np.int64)
