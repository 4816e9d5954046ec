"""Windows that lie across the borders of blocks: run once, kept for the next block.

::

    read-ahead thread                     caller's thread
    -----------------                     ---------------
    Borders: which windows are kept,  ->  does as each step says, and holds
    for which blocks, and which of        the logits: those of the windows
    them must go                          that Borders counts, no others

The first thread knows which block comes next, the second one what the network said;
steps are followed in the order that they were made in, so no lock is needed.
"""

from collections.abc import Sequence

import numpy as np

from napari_uhrseg.types import Roi


class SharedWindowCache:
    """Which windows wait for which blocks; holds their places, not their logits.

    Parameters
    ----------
    regions
        The run pixels of each block.
    room
        How many windows may be kept at once. Where there are more, those go that
        would be needed last.
    """

    def __init__(self, regions: Sequence[Roi], room: int) -> None:
        self._regions = regions
        self._sides = np.array(
            [(r.y, r.x, r.bottom, r.right) for r in regions] if room else []
        ).reshape(-1, 4)
        self._room = room
        self._waiting = np.ones(len(self._sides), bool)
        self._rank = np.zeros(len(self._sides))
        self._near: dict[int, set[int]] = {}  # of each block begun, those after it
        self._users: dict[Roi, set[int]] = {}  # of each window kept, the blocks

    def __contains__(self, window: Roi) -> bool:
        return window in self._users

    def begin(self, block: int, reach: Roi, rank: np.ndarray) -> None:
        """A block is the next one.

        Parameters
        ----------
        reach
            Holds all its windows.
        rank
            (blocks,) float: how soon each block will come, the lowest first.
        """
        if not self._room:
            return
        self._waiting[block] = False
        self._rank = np.where(self._waiting, rank, -1)  # those begun: at once
        y, x, bottom, right = self._sides.T
        near = (y < reach.bottom) & (x < reach.right) & self._waiting
        near &= (bottom > reach.y) & (right > reach.x)
        self._near[block] = set(np.flatnonzero(near).tolist())

    def to_run(self, windows: Sequence[Roi]) -> int:
        """How many windows of the blocks begun the network must run, at least."""
        if not self._room:
            return len(windows)
        return sum(w not in self._users for w in set(windows))

    def keep(self, window: Roi, block: int) -> tuple[bool, Roi | None]:
        """Whether a window that was run for a block is to be kept, and what goes."""
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
        """A block has had all its windows: those that go, as none waits for them."""
        self._near.pop(block, None)
        for others in (*self._near.values(), *self._users.values()):
            others.discard(block)
        gone = tuple(w for w, users in self._users.items() if not users)
        for window in gone:
            del self._users[window]
        return gone

    def _next_use(self, users: set[int]) -> float:
        return min(float(self._rank[block]) for block in users)
