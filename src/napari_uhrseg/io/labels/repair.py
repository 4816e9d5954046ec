"""Repair of a store whose chunk files another program or a full disk has damaged."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import zarr

from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.io.labels.pyramid import read_array, write_levels
from napari_uhrseg.io.labels.store_files import damaged_chunks
from napari_uhrseg.io.paths import PathOrUrl, write_error
from napari_uhrseg.types import Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

Coarser = Callable[[Labels], Labels]


def repair(store: "LabelStore") -> int:
    """Make chunks with an empty or cut file pending, and rebuild their coarser levels.

    Parameters
    ----------
    store
        A store that is open for writing, while no run writes to it.

    Returns
    -------
    Number of chunks that are pending again.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    pyramids: list[tuple[Sequence[zarr.Array], Coarser]] = [
        (store.confidence, coarser_confidence),
        (store.prediction, coarser_labels),
    ]
    lost = {
        _roi_of(chunk, levels[0])
        for levels, _ in pyramids
        for chunk, _ in damaged_chunks(store.path, levels[0])
    }
    for roi in lost:
        store.clear_status(roi)
    try:
        _rebuild(store, pyramids, lost)
    except OSError as error:
        raise write_error(f"{store.path} cannot be written", error) from error
    return len(lost)


def _rebuild(
    store: "LabelStore",
    pyramids: list[tuple[Sequence[zarr.Array], Coarser]],
    lost: set[Roi],
) -> None:
    """Remove damaged files, and compute the coarser levels of what is left."""
    for levels, coarser in pyramids:
        for _, file in list(damaged_chunks(store.path, levels[0])):
            file.unlink()
        rebuild_coarser(store.path, levels, coarser)
        for roi in lost:
            data = read_array(levels[0], roi.slices)
            write_levels(levels, roi, data, coarser)
    store.refresh_coarsest(Roi(0, 0, *store.prediction[-1].shape))


def rebuild_coarser(
    root: PathOrUrl, levels: Sequence[zarr.Array], coarser: Coarser
) -> None:
    """Compute damaged chunks of the coarser levels from the next finer level.

    Parameters
    ----------
    root
        Folder of the store, or of the group that was opened.
    levels
        Level 0 first.
    coarser
        Function that returns the pixels of the next level; see `downsample`.
    """
    for finer, level in pairwise(levels):
        for chunk, file in list(damaged_chunks(root, level)):
            file.unlink()
            roi = _roi_of(chunk, level)
            whole = Roi(2 * roi.y, 2 * roi.x, 2 * roi.height, 2 * roi.width)
            inside = whole.intersect(Roi(0, 0, *finer.shape))
            level[roi.slices] = coarser(read_array(finer, inside.slices))


def _roi_of(chunk: tuple[int, int], level: zarr.Array) -> Roi:
    """Return the pixels of a chunk in a level."""
    height, width = level.chunks
    roi = Roi(chunk[0] * height, chunk[1] * width, height, width)
    return roi.intersect(Roi(0, 0, *level.shape))
