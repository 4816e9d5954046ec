"""Neighbouring frames are blended where they overlap."""

import numpy as np
import pytest
import torch

from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.engine.tiling.frame_seams import FrameBorders, blend
from napari_uhrseg.types import InputSpec, Roi, View

SPEC = InputSpec({"local": View("frame")}, 64, frame=2448)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_blending_keeps_labels_of_frames_that_agree(scale):
    shape = (3000, 2300)
    run = tuple(round(n / scale) for n in shape)
    grid = FrameGrid.make(shape, run, scale, 1200, 48, SPEC)
    whole = torch.randn(4, *run, generator=torch.Generator().manual_seed(0)) * 3
    cells = grid.cells(np.ones((9, 9), bool))
    kept = {c: FrameBorders.cut(whole[(slice(None), *grid.labelled(c).slices)], 48)
            for c in cells}  # fmt: skip
    seams = 0
    for cell in cells:
        for piece in blend(grid, cell, kept):
            expected = whole[(slice(None), *piece.roi.slices)].argmax(0).numpy()
            assert (piece.labels == expected).mean() > 0.999  # float16's ties
            seams += 1
    assert seams > 4


def test_seam_weights_change_linearly():
    shape = (1024 + 512, 2048)
    grid = FrameGrid.make(shape, shape, 1.0, 1024 + 63, 63, SPEC)
    kept = {}
    for cell in grid.cells(np.ones((9, 9), bool)):
        logits = torch.zeros(2, *(grid.labelled(cell).slices[i].stop
                                  - grid.labelled(cell).slices[i].start
                                  for i in (0, 1)))  # fmt: skip
        logits[cell[1]] = 1 if cell[1] else 3  # left frames: 0 by 3, right: 1 by 1
        kept[cell] = FrameBorders.cut(logits, 63)
    (piece,) = blend(grid, (0, 1), kept)
    # the right one's share w wins where w > 3 (1 - w), after three quarters
    assert (piece.labels[:, :47] == 0).all()
    assert (piece.labels[:, 48:] == 1).all()
    assert piece.roi == Roi(0, 1024, 1024, 63)
