"""Priority of chunks whose labels are likely to change under a new checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import BoolMask, Roi

Viewport = Callable[[], Roi | None]

UNSURE = 96  # of 255: confidence below which a label is likely to change
LIKELY = 0.1  # least share of unsure pixels of a chunk that runs again first


def change_priority(store: LabelStore) -> npt.NDArray[np.float64]:
    """Return the priority of each chunk, (rows, columns) of 0 to 2.

    It is the share of unsure pixels, plus 1 if the chunk or a neighbour has
    corrections. Only the coarsest levels are read.
    """
    unsure = read_array(store.confidence[-1], ...)
    corrected = read_array(store.correction[-1], ...) != 0
    side = STORE_CHUNK >> (len(store.confidence) - 1)
    rows, columns = store.chunk_status().shape
    share, near = np.zeros((rows, columns)), np.zeros((rows, columns), bool)
    for row in range(rows):
        for column in range(columns):
            cell = Roi(row * side, column * side, side, side).slices
            known = unsure[cell] > 0
            share[row, column] = (unsure[cell][known] < UNSURE).sum() / max(
                1, known.sum()
            )
            if corrected[cell].any():
                near[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    return share + near


@dataclass
class PriorityViewport:
    """A viewport that moves on to chunks with a high priority.

    It is the user's viewport while chunks in it are pending, then the pending chunk
    with the highest priority.

    Parameters
    ----------
    scores
        Result of `change_priority`.
    pending
        Returns which chunks are not done.
    viewport
        Returns the level-0 rectangle in sight.
    """

    scores: npt.NDArray[np.float64]
    pending: Callable[[], BoolMask]
    viewport: Viewport | None
    _given: BoolMask = field(init=False)

    def __post_init__(self) -> None:
        self._given = np.zeros(self.scores.shape, bool)

    def __call__(self) -> Roi | None:
        waiting = self.pending() & ~self._given
        view = self.viewport() if self.viewport else None
        if view is not None:
            seen = waiting & in_view(view, waiting.shape)
            if seen.any():
                self._given |= nearest(seen, view)
                return view
        scores = np.where(waiting, self.scores, 0)
        if not scores.any():
            return view
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        self._given[row, column] = True
        return Roi(
            int(row) * STORE_CHUNK, int(column) * STORE_CHUNK, STORE_CHUNK, STORE_CHUNK
        )


def nearest(chunks: BoolMask, view: Roi) -> BoolMask:
    """Return a mask of the chunk whose centre is nearest to the centre of the view."""
    y, x = (v / STORE_CHUNK - 0.5 for v in view.center)
    at = np.argwhere(chunks)
    one = np.zeros_like(chunks)
    one[tuple(at[((at - (y, x)) ** 2).sum(1).argmin()])] = True
    return one


def chunks_to_rerun(scores: npt.NDArray[np.float64], view: Roi | None) -> BoolMask:
    """Return the chunks that are in view or likely to change."""
    likely: BoolMask = scores >= LIKELY
    return likely if view is None else likely | in_view(view, scores.shape)


def in_view(view: Roi, shape: tuple[int, ...]) -> BoolMask:
    """Return the chunks that a level-0 rectangle touches."""
    seen = np.zeros(shape, bool)
    around = view.align(STORE_CHUNK)
    inside = around.intersect(Roi(0, 0, shape[0] * STORE_CHUNK, shape[1] * STORE_CHUNK))
    if inside.area:
        rows, columns = (
            slice(s.start // STORE_CHUNK, s.stop // STORE_CHUNK) for s in inside.slices
        )
        seen[rows, columns] = True
    return seen
