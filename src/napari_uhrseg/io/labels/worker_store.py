"""Writing of one store by several processes.

Workers write chunks, and the client writes the status.

::

    client (has the write lock)            worker (has no lock)
    ---------------------------            --------------------
    issue_write_token                 ->   writes while the token is unchanged
    clear_status of the block         ->   level 0 of its block, and each coarser
                                           level of which the block is whole chunks
    commit: the remaining levels,     <-   WorkerResult: the first level that the
    then the status                        worker does not write

No chunk file has two writers, and a status is only set while the data is complete.
If the client dies, the next process that opens the store for writing revokes the
token, and the worker writes no more.
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
from napari_uhrseg.io.labels.pyramid import write_array
from napari_uhrseg.io.labels.write_lock import read_write_token
from napari_uhrseg.io.paths import PathOrUrl, for_zarr, io_errors, write_error
from napari_uhrseg.types import Block, BoolMask, Labels, Roi, Run


class LabelSink(Protocol):
    """Interface of a store that a run writes to: `LabelStore` or `WorkerStore`."""

    @property
    def path(self) -> PathOrUrl: ...
    @property
    def prediction(self) -> Sequence[zarr.Array]: ...
    @property
    def confidence(self) -> Sequence[zarr.Array]: ...
    def pending(self, run: Run) -> BoolMask: ...
    def write(self, block: Block, run_id: int, status: Status) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """Result that a worker returns to the client for a written block.

    Attributes
    ----------
    roi
        The block, in level-0 pixels.
    level
        The finest level that the worker does not write.
    labels, confidence
        uint8 of the block at ``level``. For a block of one chunk these are level 1,
        512 x 512. They are not used if the worker writes all levels.
    status
        Status of the block's chunks.
    """

    roi: Roi
    level: int
    labels: Labels
    confidence: Labels
    status: Status


class TokenRevoked(Exception):
    """Error for a write token that is invalid, since another process may write."""


def owned_levels(roi: Roi, shape: tuple[int, int], most: int) -> int:
    """Return the number of levels on which a block is whole chunks.

    Parameters
    ----------
    roi
        The block, in level-0 pixels.
    shape
        Height and width of the image in pixels.
    most
        Number of levels of the store.

    Returns
    -------
    1 to ``most``.
    """
    whole = Roi(0, 0, *shape)
    count = 1
    while count < most:
        if roi.align(STORE_CHUNK << count).intersect(whole) != roi:
            break
        count += 1
    return count


class WorkerStore:
    """Store of a worker, which writes chunks, but neither status nor runs.

    It implements `LabelSink` for one block at a time.

    Parameters
    ----------
    path
        Folder or URL of the store.
    token
        Token that the client issued with `LabelStore.issue_write_token`.

    Raises
    ------
    StoreError
        If there is no such store on this machine.
    """

    def __init__(self, path: PathOrUrl, token: str) -> None:
        self.path = path
        self._token = token
        self._block = Roi(0, 0, 0, 0)
        self._results: list[WorkerResult] = []
        try:
            root = zarr.open_group(for_zarr(path), mode="r+", zarr_format=3)
            stored: Any = root.attrs[ome_metadata.KEY]
            info = ome_metadata.StoreInfo.from_dict(stored["image"])
            self.shape = info.shape
            count = ome_metadata.stored_level_count(root.attrs)
            self.confidence = [_array(root, f"{k}") for k in range(count)]
            self.prediction = [
                _array(root, f"labels/prediction/{k}") for k in range(count)
            ]
        except io_errors(path, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"The label store {path} cannot be opened by a worker: {error}.",
                "Workers need the store at the same path as the client, with write "
                "permission.",
            ) from error

    def set_block(self, roi: Roi) -> None:
        """Choose the block to write, in level-0 pixels, and clear the results."""
        self._block = roi
        self._results.clear()

    def results(self) -> tuple[WorkerResult, ...]:
        """Return the results since `set_block`, to be committed in this order."""
        return tuple(self._results)

    def pending(self, run: Run) -> BoolMask:
        """Return the chunks of the block, which do not depend on the run."""
        return chunk_status.chunks_touching(self._block, self.shape)

    def write(self, block: Block, run_id: int, status: Status) -> None:
        """Write a block to all levels of which it is whole chunks.

        Parameters
        ----------
        block
            Whole chunks inside the block of `set_block`.
        run_id
            Not used; the client records it.
        status
            Status of the chunks, for the client.

        Raises
        ------
        ValueError
            If the block does not consist of whole chunks, or is not inside the block
            of `set_block`.
        TokenRevoked
            If another process has opened the store for writing. Nothing was written.
        StoreError
            If the disk is full or cannot be written.
        """
        chunk_status.chunks_of(block, self.shape)
        if not self._block.contains(block.roi):
            raise ValueError(f"{block.roi} is outside the worker's block {self._block}")
        if read_write_token(self.path) != self._token:
            raise TokenRevoked(f"{self.path} has another writer now")
        count = owned_levels(block.roi, self.shape, len(self.prediction))
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
            raise write_error(f"{self.path} cannot be written", error) from error
        result = WorkerResult(block.roi, count, labels, confidence, status)
        self._results.append(result)


def _write(
    levels: Sequence[zarr.Array],
    roi: Roi,
    data: Labels,
    coarser: Callable[[Labels], Labels],
) -> Labels:
    """Write whole chunks of some levels. Return the data of the next level."""
    for k, level in enumerate(levels):
        key = roi.at_scale(2**k).slices
        write_array(level, key, data)
        data = coarser(data)
    return data


def _array(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    if not isinstance(array, zarr.Array) or array.dtype != np.uint8:
        raise TypeError(f"{name} is not an array of labels")
    return array
