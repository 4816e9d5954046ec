"""Sizes and times that bound a run, each in one place."""

from dataclasses import dataclass

SOFTMAX_ROWS = 256  # rows of logits that become labels at a time, on a GPU
OPEN_BLOCKS = 2  # blocks whose logits are in memory: one being read, one before it


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of a run that its settings pass on to every part.

    The defaults suit all images. Smaller ones make a small image behave as a large
    one does, which is how the tests use them.

    Attributes
    ----------
    block_seconds
        Seconds of network time that a block may take, above 0.
    block_chunks
        Side of a block in chunks of the store, at least 1.
    waiting_windows
        Windows whose logits wait in main memory for their next block. None: as many
        as fit half of what the memory budget leaves.
    """

    block_seconds: float = 1.0
    block_chunks: int = 8
    waiting_windows: int | None = None
