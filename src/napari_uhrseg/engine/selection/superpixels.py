"""Superpixels: small regions whose borders follow those in the picture.

They are those of SLIC (Achanta et al., IEEE TPAMI 2012), computed by scikit-image.
"""

import numpy as np
import numpy.typing as npt
from skimage.segmentation import slic

from napari_uhrseg.engine.selection.work_area import WorkArea
from napari_uhrseg.types import BoolMask

Ints = npt.NDArray[np.int32]

SIDE = 10  # mean side of a superpixel in pixels of the work area
COMPACTNESS = 0.1  # of CIELAB / 100, as 10 of CIELAB
SMOOTHING = 1.0  # standard deviation in pixels
ITERATIONS = 5


def superpixels(area: WorkArea, side: int = SIDE) -> Ints:
    """Return the superpixels of a work area, numbered from 1; 0: no data.

    A work area has at most two million pixels, which take about a second.

    Parameters
    ----------
    area
        The work area.
    side
        Mean side of a superpixel in pixels of the work area, at least 2.

    Returns
    -------
    (height, width) int32
        Number of each pixel's superpixel.
    """
    count = max(1, area.valid.size // side**2)
    found: Ints = slic(
        area.colors,
        n_segments=count,
        compactness=COMPACTNESS,
        sigma=SMOOTHING,
        max_num_iter=ITERATIONS,
        convert2lab=False,
        start_label=1,
        channel_axis=-1,
    ).astype(np.int32)
    found[~area.valid] = 0
    return found


def touched(segments: Ints, painted: BoolMask) -> BoolMask:
    """Return the pixels of all superpixels that a mask touches.

    Parameters
    ----------
    segments
        Number of each pixel's superpixel; 0 is none.
    painted
        Mask of the same shape.
    """
    chosen = np.zeros(int(segments.max()) + 1, bool)
    chosen[segments[painted]] = True
    chosen[0] = False
    found: BoolMask = chosen.take(segments)
    return found
