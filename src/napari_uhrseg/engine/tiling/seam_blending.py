"""Neighbouring frames are blended where they overlap.

Each frame leaves the logits of its four borders, as float16; when all frames of a
cell have, its seams are their weighted sum in grid order, so that the result is the
same whatever the order in which frames ran. Weights rise linearly over the seam and
sum to one. A pixel's highest logit is taken off before rounding: that changes
neither the best class nor the probabilities, and keeps float16 from overflowing.
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
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.frame_logits import LogitMaps
from napari_uhrseg.engine.tiling.merge import labels_and_confidence
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.paths import Address, error_text, io_errors, remove_folder
from napari_uhrseg.types import Labels, Roi

Half = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class FrameBorders:
    """The (K, h, w) logits along the borders of what a frame labels."""

    top: Half
    bottom: Half
    left: Half
    right: Half

    @classmethod
    def cut(cls, logits: LogitMaps, width: int) -> "FrameBorders":
        """From the (K, h, w) logits of a frame's cell and seam."""
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
"""What the frames left; None: there was nothing to label."""


class BlendedSeam(NamedTuple):
    """Blended labels (from 0) and confidence of a rectangle of run pixels."""

    roi: Roi
    labels: Labels
    confidence: Labels


class BorderStore(BorderMap):
    """Strips in files, each written whole: a frame that is here need not run again.

    A frame of 2448 pixels and 7 classes takes 18 MB. Raises StoreError where the disk
    is full or cannot be written.
    """

    def __init__(self, path: Address) -> None:
        self._path = path

    def __getitem__(self, frame: Frame) -> FrameBorders | None:
        try:
            data = io.BytesIO(self._file(frame).read_bytes())
            with np.load(data, allow_pickle=False) as file:
                return FrameBorders(**file) if file.files else None
        except FileNotFoundError:
            raise KeyError(frame) from None

    def __setitem__(self, frame: Frame, strips: FrameBorders | None) -> None:
        arrays = {} if strips is None else {k: getattr(strips, k) for k in _NAMES}
        memory = io.BytesIO()
        np.savez(memory, **arrays)
        target = self._file(frame)
        try:
            if isinstance(target, Path):
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target, target.with_suffix(".part")) as part:
                    part.write_bytes(memory.getbuffer())
            else:  # an object is there whole, or not at all
                target.write_bytes(memory.getvalue())
        except io_errors(target) as error:
            raise StoreError(
                f"The borders of a frame cannot be written to {target.parent}: "
                f"{error_text(error)}.",
                "Free some space or check the disk, then segment again: what is done "
                "stays.",
            ) from error

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
        if isinstance(self._path, Path):
            shutil.rmtree(self._path, ignore_errors=True)
        elif self._path.exists():
            self._path.rmdir(recursive=True)

    def _file(self, frame: Frame) -> Address:
        return self._path / f"{frame[0]}-{frame[1]}.npz"


def border_store(
    store: Address, run_id: int, grid: FrameGrid | None = None
) -> BorderStore:
    """The strips of a run: of frames of this grid's size, those of another are no use.

    Without a grid: all of them, to be removed.
    """
    every = store / "frames" / str(run_id)
    return BorderStore(every if grid is None else every / "x".join(map(str, grid.fed)))


def remove_stale_borders(store: Address, run_id: int) -> None:
    """Remove the strips of all other runs, before a run writes its first labels.

    They say that a frame need not run again, as its labels lie in the store: not so
    any longer once another run has written there. Raises StoreError.
    """
    folder = store / "frames"
    try:
        there: list[Address] = list(folder.iterdir()) if folder.exists() else []
        for other in there:
            if other.name != str(run_id):
                remove_folder(other)
    except io_errors(store) as error:
        raise StoreError(
            f"What an earlier run left in {folder} cannot be removed: "
            f"{error_text(error)}.",
            "Remove that folder, then segment again: what is done stays.",
        ) from error


_NAMES = ("top", "bottom", "left", "right")


def blend(grid: FrameGrid, cell: Frame, kept: BorderMap) -> list[BlendedSeam]:
    """The seams at the top and the left of a cell, as its frames see them together.

    Raises KeyError where a frame of the cell has not left its strips.
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
    """One seam: ``sides`` are the borders of the frame before and of the own one."""
    along = 0 if sides[1] == "top" else 1  # the axis across the seam
    total: Tensor | None = None
    weights = torch.zeros(roi.height, roi.width)
    for frame, strips in frames.items():
        if strips is None:
            continue
        side = sides[1] if frame[along] == cell[along] else sides[0]
        place = grid.labelled(frame)
        logits = torch.from_numpy(getattr(strips, side))
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
    assert total is not None  # the cell's own frame left strips
    return BlendedSeam(roi, *labels_and_confidence(total, weights))


def _weights(grid: FrameGrid, cell: Frame, frame: Frame, roi: Roi) -> Tensor:
    """The share of a frame in the pixels of a cell's seams, (h, w)."""
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
