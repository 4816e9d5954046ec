"""Order of blocks and frames: the nearest to the viewport first."""

from collections.abc import Sequence

import numpy as np

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.types import Roi


class NearestFirst:
    """Indices of rectangles in order of distance to the viewport. True while some wait.

    Parameters
    ----------
    rois
        The rectangles in level-0 pixels.
    viewport
        Returns the level-0 rectangle in sight, before each choice. None: in order.
    """

    def __init__(self, rois: Sequence[Roi], viewport: Viewport | None) -> None:
        self._centers = np.array([roi.center for roi in rois]).reshape(-1, 2)
        self._waiting = np.ones(len(rois), bool)
        self._viewport = viewport
        self.ranks = ranks(self._centers, None)

    def __bool__(self) -> bool:
        return bool(self._waiting.any())

    def next(self) -> int:
        """Return the waiting index nearest to the viewport, and remove it.

        ``ranks`` then has the order of all rectangles, the nearest with the lowest.
        """
        view = self._viewport() if self._viewport else None
        self.ranks = ranks(self._centers, view)
        waiting = np.flatnonzero(self._waiting)
        index = int(waiting[self.ranks[waiting].argmin()])
        self._waiting[index] = False
        return index


def ranks(centers: np.ndarray, view: Roi | None) -> np.ndarray:
    """Return the order in which items come, (n,) float, the lowest first.

    Without a view, it is the order of the (n, 2) centers.
    """
    if view is None:
        return np.arange(len(centers), dtype=float)
    found: np.ndarray = ((centers - np.array(view.center)) ** 2).sum(axis=1)
    return found
