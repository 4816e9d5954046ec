"""A store that many processes write: each writes the chunks it owns, one marks them.

::

    client (holds the store's lock)        worker (no lock)
    -------------------------------        ----------------
    hand_out: a token in the store    ->   writes while the token is the same
    claim: the block's states cleared ->   level 0 of its block, and each coarser
                                           level of which it owns whole chunks
    adopt: the levels that are left,  <-   Part: the first level it does not own
    then the states

No chunk file has two writers, and a state is only there while the data is right. A
worker whose client has died finds the token gone as soon as another process opens
the store for writing, and writes no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels import chunk_status, ome_metadata
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK, Status
from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.write_lock import read_write_token
from napari_uhrseg.io.paths import Address, error_text, for_zarr, io_errors
from napari_uhrseg.types import Block, Labels, Mask, Roi, Run


class LabelSink(Protocol):
    """What a run needs of a store: `LabelStore` has it, and `WorkerStore`."""

    @property
    def path(self) -> Address: ...
    @property
    def prediction(self) -> Sequence[zarr.Array]: ...
    @property
    def confidence(self) -> Sequence[zarr.Array]: ...
    def pending(self, run: Run) -> Mask: ...
    def write(self, block: Block, run_id: int, status: Status) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """What a worker leaves to the client of a block it has written.

    ``roi`` is the block in level 0; ``labels`` and ``confidence`` are uint8 of the
    block at ``level``, the finest that the worker does not own: for a block of one
    chunk level 1, 512 x 512. Where the worker owns all levels they are not needed.
    """

    roi: Roi
    level: int
    labels: Labels
    confidence: Labels
    status: Status


class TokenRevoked(Exception):
    """Another process may write the store now."""


def owned_levels(roi: Roi, shape: tuple[int, int]) -> int:
    """On how many levels a block of whole chunks is whole chunks; at least 1."""
    whole = Roi(0, 0, *shape)
    count = 1
    while count < len(ome_metadata.level_shapes(shape)):
        if roi.align(STORE_CHUNK << count).intersect(whole) != roi:
            break
        count += 1
    return count


class WorkerStore:
    """Some chunks of a store, for the worker that owns them.

    Only what `LabelSink` says; neither states nor runs are written.

    Parameters
    ----------
    path, token
        Of the store, and what its client handed out.

    Raises
    ------
    StoreError
        There is no such store here.
    """

    def __init__(self, path: Address, token: str) -> None:
        self.path = path
        self._token = token
        self._own = Roi(0, 0, 0, 0)
        self._parts: list[WorkerResult] = []
        try:
            root = zarr.open_group(for_zarr(path), mode="r+", zarr_format=3)
            stored: Any = root.attrs[ome_metadata.KEY]
            info = ome_metadata.StoreInfo.from_dict(stored["image"])
            self.shape = info.shape
            count = len(ome_metadata.level_shapes(info.shape))
            self.confidence = [_array(root, f"{k}") for k in range(count)]
            self.prediction = [
                _array(root, f"labels/prediction/{k}") for k in range(count)
            ]
        except io_errors(path, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"The label store {path} cannot be opened by a worker: {error}.",
                "Workers must see the store where the client does, and may write it.",
            ) from error

    def set_block(self, roi: Roi) -> None:
        """From now on this block, in level-0 pixels, and nothing else."""
        self._own = roi
        self._parts.clear()

    def results(self) -> tuple[WorkerResult, ...]:
        """What was written since `own`, for the client to adopt in this order."""
        return tuple(self._parts)

    def pending(self, run: Run) -> Mask:
        """The chunks of the block, whatever the run."""
        return chunk_status.chunks_touching(self._own, self.shape)

    def write(self, block: Block, run_id: int, status: Status) -> None:
        """Put a block on disk, on all levels of which it is whole chunks.

        Raises
        ------
        ValueError
            The block is not of whole chunks, or not of those owned.
        Revoked
            Another process has opened the store for writing; nothing was written.
        StoreError
            The disk is full or cannot be written.
        """
        chunk_status.chunks_of(block, self.shape)
        if not self._own.contains(block.roi):
            raise ValueError(f"{block.roi} is not owned: {self._own} is")
        if read_write_token(self.path) != self._token:
            raise TokenRevoked(f"{self.path} has another writer now")
        count = owned_levels(block.roi, self.shape)
        try:
            confidence = _write(
                self.confidence[:count], block.roi, block.confidence, coarser_confidence
            )
            labels = _write(
                self.prediction[:count], block.roi, block.labels, coarser_labels
            )
        except StoreError:
            raise
        except io_errors(self.path) as error:
            raise StoreError(
                f"{self.path} cannot be written: {error_text(error)}.",
                "Free some space or check the disk, then segment again: what is "
                "done stays.",
            ) from error
        self._parts.append(WorkerResult(block.roi, count, labels, confidence, status))


def _write(
    levels: Sequence[zarr.Array],
    roi: Roi,
    data: Labels,
    coarser: Callable[[Labels], Labels],
) -> Labels:
    """Write whole chunks of some levels; returns the data of the next one."""
    for k, level in enumerate(levels):
        key = roi.at_scale(2**k).slices
        # zeros over nothing would encode chunks for no change
        if data.any() or read_array(level, key).any():
            level[key] = data
        data = coarser(data)
    return data


def _array(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    if not isinstance(array, zarr.Array) or array.dtype != np.uint8:
        raise TypeError(f"{name} is no array of labels")
    return array
