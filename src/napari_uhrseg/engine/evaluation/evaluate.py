"""Labels of a whole scene, and their scores against the ground truth."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from napari_uhrseg.engine.data.scenes import GroundTruth, Scene
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix, Scores
from napari_uhrseg.engine.inference.label_windows import (
    LARGEST_BLOCK,
    TilingSettings,
    label_windows,
)
from napari_uhrseg.engine.network.device import MemoryBudget, inference_mode
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.network.pixel_batch import PixelBatch
from napari_uhrseg.engine.planning.plan import Plan, make_plan
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.tiling.confidence import labels_and_confidence
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.frame_seams import FrameBorders, blend
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import OPEN_BLOCKS, Labels, Roi, SegmentSettings


def label_scene(
    model: Segmenter, scene: Scene, how: TilingSettings
) -> Iterator[tuple[Roi, Labels | None]]:
    """Yield blocks of run pixels with their class indices (from 0), in grid order.

    Windows or frames, weights and order of sums are those of ``segment()`` for an
    image of the scene's size. Blocks without sparse labels do not run, unless the model
    works on frames. Memory is that of a block and a few batches, or of two rows of
    frames' borders.

    Parameters
    ----------
    model
        In eval mode, on the device of the settings.
    scene
        A scene that fits the model's inputs.
    how
        Overlap, batch size, device, precision and frame.

    Yields
    ------
    roi : Roi
        The block that runs.
    labels : (h, w) uint8, or None
        None after each batch before the last, so that a caller can stop.
    """
    if how.frame is None:
        yield from _by_windows(model, scene, how)
    else:
        yield from _by_frames(model, scene, how, how.frame)


def _by_windows(
    model: Segmenter, scene: Scene, how: TilingSettings
) -> Iterator[tuple[Roi, Labels | None]]:
    spec = model.spec
    grid = WindowGrid.make(scene.shape, spec.window, how.overlap, spec.placement)
    read = partial(scene.pixels, spec=spec)
    tiles = Roi(0, 0, *scene.shape).tiles(how.block)
    blocks = [block for block in tiles if scene.has_labels(block)]
    for roi, found in label_windows(model, grid, blocks, read, how):
        yield roi, None if found is None else found[0]


def _by_frames(
    model: Segmenter, scene: Scene, how: TilingSettings, largest: int
) -> Iterator[tuple[Roi, Labels | None]]:
    shape = scene.shape
    grid = FrameGrid.make(shape, shape, 1.0, largest, how.overlap, model.spec)
    kept: dict[Frame, FrameBorders | None] = {}
    frames = [(i, j) for i in range(len(grid.rows)) for j in range(len(grid.columns))]

    def read() -> Iterator[tuple[Frame, PixelBatch]]:
        for frame in frames:
            yield frame, scene.pixels([grid.input_roi(frame)], model.spec)

    with closing(Prefetcher(read(), how.ahead)) as work:
        for frame, batch in work:
            whole, place = grid.input_roi(frame), grid.labelled(frame)
            rows, columns = place.shift(-whole.y, -whole.x).slices
            with inference_mode(how.device, how.precision):
                logits = model(batch.normalized(how.device))["logits"][0].float()
                logits = logits[:, rows, columns]
                cell = grid.cell(frame)
                labels, _ = labels_and_confidence(
                    logits[:, : cell.height, : cell.width]
                )
                kept[frame] = FrameBorders.cut(logits, grid.overlap)
            for piece in blend(grid, frame, kept):  # frames above and left have run
                labels[piece.roi.shift(-cell.y, -cell.x).slices] = piece.labels
            row, column = frame
            kept.pop((row - 1, column - 1), None)  # not needed any more
            if column + 1 == len(grid.columns):
                kept.pop((row - 1, column), None)
            yield cell, labels


def evaluate(
    image: Image,
    target: GroundTruth,
    checkpoint: Checkpoint,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    merged: npt.NDArray[np.uint8] | None = None,
) -> Scores:
    """Label the image as ``segment()`` would, and compare with the ground truth.

    Bands, scale, values, overlap and batch are those of the plan. Labels are compared
    at the scale of the run.

    Parameters
    ----------
    image
        The image to be labelled.
    target
        Class indices in the order of the checkpoint's legend.
    checkpoint
        The network and its card.
    settings
        Settings as for ``segment()``.
    budget
        Memory that the run may use. None: the default of the device.
    merged
        (K,) class index as which each class is compared. None: itself.

    Returns
    -------
    Scores
        Confusion matrix and the metrics that follow from it.

    Raises
    ------
    PlanError, DeviceError, ReadError
        As for ``segment()``.
    TrainingError
        If no pixel has a known class.
    """
    steps = evaluation_steps(image, target, checkpoint, settings, budget, merged)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("Scores", end.value)


def evaluation_steps(
    image: Image,
    target: GroundTruth,
    checkpoint: Checkpoint,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    merged: npt.NDArray[np.uint8] | None = None,
) -> Generator[float, None, Scores]:
    """Do the work of `evaluate` in steps, so that it can be shown and stopped.

    Parameters
    ----------
    image, target, checkpoint, settings, budget, merged
        As for `evaluate`.

    Yields
    ------
    float
        Finished share of the image after each batch, 0 to 1.

    Returns
    -------
    Scores
        As `evaluate` returns them.

    Raises
    ------
    UhrSegError
        As `evaluate` does.
    """
    plan = make_plan(image, checkpoint, settings, budget)
    run = plan.run
    scene = Scene(image.name, image, target, run.bands, run.value_range, run.scale)
    device = torch.device(plan.device.id)
    how = TilingSettings(
        run.overlap, run.batch_size, device, run.precision, run.frame,
        block=_block_side(plan), ahead=plan.sized.ahead,
    )  # fmt: skip
    model = optimized(checkpoint.model, run.precision).to(how.device)
    counter = ConfusionMatrix([c.name for c in checkpoint.card.legend])
    height, width = scene.shape
    done = 0.0
    for roi, labels in label_scene(model, scene, how):
        if labels is not None:
            found = labels if merged is None else merged[labels]
            counter.add(found, scene.labels(roi))
            done = (roi.y * width + roi.right * roi.height) / (height * width)
        yield done
    scores = counter.scores()
    if not scores.counts.sum():
        raise TrainingError(
            f"No pixel of {image.name} has a known label.",
            "Check the mask, and which of its values are ignored.",
        )
    return scores


def _block_side(plan: Plan) -> int:
    """Return the run pixels along a side of a block that the budget permits.

    A run has ``OPEN_BLOCKS`` smaller blocks at a time.
    """
    side = plan.block_chunks * STORE_CHUNK / plan.run.scale
    return min(LARGEST_BLOCK, int(side * math.sqrt(OPEN_BLOCKS)))
