"""Blending of neighbouring frames where they overlap.

The logits of a frame's four borders are stored as float16. When all frames of a cell
have run, its seams are the weighted sum of these logits in grid order, so that the
result does not depend on the order in which frames ran. Weights rise linearly over
the seam and sum to 1. A pixel's highest logit is subtracted before rounding. This
changes neither the best class nor the probabilities, and avoids float16 overflow.
"""

import io
import shutil
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.atomic import replacing
from napari_uhrseg.engine.tiling.confidence import labels_and_confidence
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.frame_logits import LogitMaps
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.paths import (
    PathOrUrl,
    error_text,
    io_errors,
    remove_folder,
    write_error,
)
from napari_uhrseg.types import Labels, Roi

Half = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class FrameBorders:
    """The (K, h, w) logits along the four borders of the pixels that a frame labels."""

    top: Half
    bottom: Half
    left: Half
    right: Half

    @classmethod
    def cut(cls, logits: LogitMaps, width: int) -> "FrameBorders":
        """Return the borders of the (K, h, w) logits of a frame's cell and seam."""
        below, beyond = (max(0, n - width) for n in logits.shape[1:])
        return cls(
            *(
                (part - part.amax(0, keepdim=True)).clamp(min=-6e4).half().cpu().numpy()
                for part in (
                    logits[:, :width],
                    logits[:, below:],
                    logits[:, :, :width],
                    logits[:, :, beyond:],
                )
            )
        )


BorderMap = MutableMapping[Frame, FrameBorders | None]
"""The borders of each frame that has run. None: the frame had nothing to label."""


class BlendedSeam(NamedTuple):
    """Blended labels (from 0) and confidence of a rectangle of run pixels."""

    roi: Roi
    labels: Labels
    confidence: Labels


class BorderStore(BorderMap):
    """Borders of frames in files. A frame that has a file need not run again.

    Files are written atomically. A frame of 2448 pixels and 7 classes takes 18 MB.
    Setting an item raises StoreError if the disk is full or cannot be written.

    Parameters
    ----------
    path
        Folder of the files.
    """

    def __init__(self, path: PathOrUrl) -> None:
        self._path = path

    def __getitem__(self, frame: Frame) -> FrameBorders | None:
        try:
            data = io.BytesIO(self._file(frame).read_bytes())
            with np.load(data, allow_pickle=False) as file:
                return FrameBorders(**file) if file.files else None
        except FileNotFoundError:
            raise KeyError(frame) from None

    def __setitem__(self, frame: Frame, borders: FrameBorders | None) -> None:
        arrays = {} if borders is None else {k: getattr(borders, k) for k in _NAMES}
        memory = io.BytesIO()
        np.savez(memory, **arrays)
        target = self._file(frame)
        try:
            if isinstance(target, Path):
                # not the store itself, which may have been moved
                for folder in (*self._path.parents[1::-1], self._path):
                    folder.mkdir(exist_ok=True)
                with replacing(target, target.with_suffix(".part")) as part:
                    part.write_bytes(memory.getvalue())
            else:  # object stores write atomically
                target.write_bytes(memory.getvalue())
        except io_errors(target) as error:
            problem = f"The borders of a frame cannot be written to {target.parent}"
            raise write_error(problem, error) from error

    def __delitem__(self, frame: Frame) -> None:
        self._file(frame).unlink()

    def __iter__(self) -> Iterator[Frame]:
        for file in self._path.glob("*.npz"):
            row, column = file.stem.split("-")
            yield int(row), int(column)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, tuple) and self._file(frame).exists()

    def clear(self) -> None:
        """Remove all files."""
        if isinstance(self._path, Path):
            shutil.rmtree(self._path, ignore_errors=True)
        elif self._path.exists():
            self._path.rmdir(recursive=True)

    def _file(self, frame: Frame) -> PathOrUrl:
        return self._path / f"{frame[0]}-{frame[1]}.npz"


def border_store(
    store: PathOrUrl, run_id: int, grid: FrameGrid | None = None
) -> BorderStore:
    """Return the store of the borders of a run's frames.

    Parameters
    ----------
    store
        Path of the label store.
    run_id
        Number of the run.
    grid
        The frames of the run. Frames of another size have another folder. None: the
        folder of all sizes, to be removed.
    """
    every = store / "frames" / str(run_id)
    return BorderStore(
        every if grid is None else every / "x".join(map(str, grid.input_shape))
    )


def remove_stale_borders(store: PathOrUrl, run_id: int) -> None:
    """Remove the borders of all other runs, before a run writes its first labels.

    A stored border means that the labels of its frame are in the store. This is no
    longer true once another run has written there.

    Raises
    ------
    StoreError
        If the files cannot be removed.
    """
    folder = store / "frames"
    try:
        there: list[PathOrUrl] = list(folder.iterdir()) if folder.exists() else []
        for other in there:
            if other.name != str(run_id):
                remove_folder(other)
    except io_errors(store) as error:
        raise StoreError(
            f"Files of an earlier run in {folder} cannot be removed: "
            f"{error_text(error)}.",
            "Remove that folder, then segment again. Finished blocks are kept.",
        ) from error


_NAMES = ("top", "bottom", "left", "right")


def blend(grid: FrameGrid, cell: Frame, kept: BorderMap) -> list[BlendedSeam]:
    """Return the blended seams at the top and the left of a cell.

    Parameters
    ----------
    grid
        The frames of the whole image.
    cell
        Row and column of the cell.
    kept
        Borders of the frames that have run.

    Raises
    ------
    KeyError
        If a frame of the cell has not run.
    """
    row, column = cell
    frames = {frame: kept[frame] for frame in grid.frames_of(cell)}
    if frames[cell] is None:
        return []
    whole, width = grid.cell(cell), grid.overlap
    pieces = []
    if row and width:
        roi = Roi(whole.y, whole.x, min(width, whole.height), whole.width)
        pieces.append(_blended(grid, roi, cell, frames, ("bottom", "top")))
    if column and width:
        skipped = width if row else 0  # the corner belongs to the seam above
        roi = Roi(
            whole.y + skipped,
            whole.x,
            max(0, whole.height - skipped),
            min(width, whole.width),
        )
        if roi.area:
            pieces.append(_blended(grid, roi, cell, frames, ("right", "left")))
    return pieces


def _blended(
    grid: FrameGrid,
    roi: Roi,
    cell: Frame,
    frames: dict[Frame, FrameBorders | None],
    sides: tuple[str, str],
) -> BlendedSeam:
    """Return a blended seam.

    ``sides`` are the borders of the frame before and of the cell's own frame.
    """
    along = 0 if sides[1] == "top" else 1  # the axis across the seam
    total: Tensor | None = None
    weights = torch.zeros(roi.height, roi.width)
    for frame, borders in frames.items():
        if borders is None:
            continue
        side = sides[1] if frame[along] == cell[along] else sides[0]
        place = grid.labelled(frame)
        logits = torch.from_numpy(getattr(borders, side))
        y, x = place.y, place.x
        if side == "bottom":
            y = place.bottom - logits.shape[1]
        if side == "right":
            x = place.right - logits.shape[2]
        here = Roi(y, x, *logits.shape[1:]).intersect(roi)
        if not here.area:
            continue
        part = logits[(slice(None), *here.shift(-y, -x).slices)].float()
        to = here.shift(-roi.y, -roi.x).slices
        share = _weights(grid, cell, frame, here)
        if total is None:
            total = torch.zeros(len(logits), roi.height, roi.width)
        total[(slice(None), *to)] += part * share
        weights[to] += share
    assert total is not None  # the cell's own frame has borders
    return BlendedSeam(roi, *labels_and_confidence(total, weights))


def _weights(grid: FrameGrid, cell: Frame, frame: Frame, roi: Roi) -> Tensor:
    """Return the weight of a frame in the pixels of a cell's seams, (h, w)."""
    start = grid.labelled(cell)
    ramps = []
    for own, other, first, begin, count in (
        (cell[0], frame[0], start.y, roi.y, roi.height),
        (cell[1], frame[1], start.x, roi.x, roi.width),
    ):
        if own == 0:
            ramps.append(torch.ones(count))
            continue
        at = torch.arange(begin - first, begin - first + count, dtype=torch.float32)
        rising = ((at + 1) / (grid.overlap + 1)).clamp(max=1)
        ramps.append(rising if own == other else 1 - rising)
    return ramps[0][:, None] * ramps[1][None, :]
