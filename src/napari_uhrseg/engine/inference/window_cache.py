"""Cache of windows that lie across the borders of blocks, which run only once.

::

    prefetch thread                       caller's thread
    ---------------                       ---------------
    SharedWindowCache: decides which  ->  BlockAssembler: stores and frees the
    windows are kept, for which           logits of each WindowTask
    blocks, and which are removed

The first thread knows which block comes next, and the second one has the logits.
Tasks are carried out in the order in which they were made, so no lock is needed.
"""

from collections.abc import Sequence

import numpy as np

from napari_uhrseg.types import Roi


class SharedWindowCache:
    """Bookkeeping of windows that neighbouring blocks share, without their logits.

    Parameters
    ----------
    regions
        The run pixels of each block.
    room
        Number of windows that may be kept at a time. If there are more, those that are
        needed last are removed.
    """

    def __init__(self, regions: Sequence[Roi], room: int) -> None:
        self._regions = regions
        self._sides = np.array(
            [(r.y, r.x, r.bottom, r.right) for r in regions] if room else []
        ).reshape(-1, 4)
        self._room = room
        self._waiting = np.ones(len(self._sides), bool)
        self._rank = np.zeros(len(self._sides))
        self._near: dict[int, set[int]] = {}  # of each started block, those after it
        self._users: dict[
            Roi, set[int]
        ] = {}  # of each kept window, the blocks that need it

    def __contains__(self, window: Roi) -> bool:
        return window in self._users

    def begin(self, block: int, reach: Roi, rank: np.ndarray) -> None:
        """Register a block as the next one.

        Parameters
        ----------
        block
            Number of the block.
        reach
            Run pixels that contain all its windows.
        rank
            (blocks,) float: order in which the blocks will come, the lowest first.
        """
        if not self._room:
            return
        self._waiting[block] = False
        self._rank = np.where(self._waiting, rank, -1)  # started blocks come first
        y, x, bottom, right = self._sides.T
        near = (y < reach.bottom) & (x < reach.right) & self._waiting
        near &= (bottom > reach.y) & (right > reach.x)
        self._near[block] = set(np.flatnonzero(near).tolist())

    def to_run(self, windows: Sequence[Roi]) -> int:
        """Return how many of the windows are not kept from another block."""
        if not self._room:
            return len(windows)
        return sum(w not in self._users for w in set(windows))

    def keep(self, window: Roi, block: int) -> tuple[bool, Roi | None]:
        """Return whether to keep a window of a block, and which window to remove."""
        users = {
            other
            for other in self._near.get(block, ())
            if window.intersect(self._regions[other]).area
        }
        if not users:
            return False, None
        instead = None
        if len(self._users) == self._room:
            instead = max(self._users, key=lambda w: self._next_use(self._users[w]))
            if self._next_use(users) >= self._next_use(self._users[instead]):
                return False, None
            del self._users[instead]
        self._users[window] = users
        return True, instead

    def leave(self, block: int) -> tuple[Roi, ...]:
        """Register a block as complete; return the windows that no block needs."""
        self._near.pop(block, None)
        for others in (*self._near.values(), *self._users.values()):
            others.discard(block)
        gone = tuple(w for w, users in self._users.items() if not users)
        for window in gone:
            del self._users[window]
        return gone

    def _next_use(self, users: set[int]) -> float:
        return min(float(self._rank[block]) for block in users)
