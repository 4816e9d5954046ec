"""Labels of a whole scene by a network, and their scores against the truth."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import torch

from napari_uhrseg.engine.data.scenes import GroundTruth, Scene
from napari_uhrseg.engine.evaluation.metrics import Counter, Scores
from napari_uhrseg.engine.network.device import MemoryBudget, inference_mode
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.merge import (
    Merger,
    TiledLabels,
    labels_and_confidence,
    make_merger,
    window_weights,
)
from napari_uhrseg.engine.tiling.seam_blending import FrameBorders, blend
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import InputSpec, Labels, Roi, SegmentSettings

BLOCK = 2048  # run pixels labelled at a time


@dataclass(frozen=True, slots=True)
class TilingSettings:
    """How a scene is covered and computed; as in a plan.

    ``frame`` is the side of the largest frame, for models that work on frames.
    """

    overlap: int
    batch_size: int
    device: torch.device
    precision: str
    frame: int | None = None

    @classmethod
    def of(
        cls, spec: InputSpec, batch_size: int, device: torch.device, precision: str
    ) -> "TilingSettings":
        """What the model asks for, nothing chosen by a person."""
        overlap = spec.window_overlap if spec.frame is None else spec.frame_overlap
        return cls(overlap, batch_size, device, precision, spec.frame)


def label_scene(
    model: Segmenter, scene: Scene, how: TilingSettings
) -> Iterator[tuple[Roi, Labels | None]]:
    """Blocks of run pixels with their class indices (from 0), in grid order.

    The windows or frames, weights and order of sums are those of ``segment()`` for
    an image of the scene's size. Yields ``(roi, None)`` after each batch, so that a
    caller can stop. The model must be in eval mode and the scene fitted. Memory is
    that of a block and a few batches, or of two rows of frames' borders.
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
    weights = window_weights(spec.window, how.overlap, spec.merge)

    def read() -> Iterator[tuple[Roi, list[Roi], Batch, bool]]:
        for block in _blocks(scene.shape):
            windows = list(grid.touching(block))
            for first in range(0, len(windows), how.batch_size):
                some = windows[first : first + how.batch_size]
                last = first + how.batch_size >= len(windows)
                yield block, some, scene.inputs(some, spec), last

    merger: Merger | TiledLabels | None = None
    with closing(Prefetcher(read())) as work:
        for block, windows, batch, last in work:
            # short batches are padded: kernels depend on the batch's size
            index = torch.arange(how.batch_size).clamp(max=len(windows) - 1)
            with inference_mode(how.device, how.precision):
                logits = model(batch[index].to(how.device))["logits"][: len(windows)]
                if merger is None:
                    merger = make_merger(
                        grid, block, logits.shape[1], weights, how.device
                    )
                merger.add(windows, logits)
                found = merger.finish()[0] if last else None
            yield block, found
            merger = None if last else merger


def _by_frames(
    model: Segmenter, scene: Scene, how: TilingSettings, largest: int
) -> Iterator[tuple[Roi, Labels | None]]:
    shape = scene.shape
    grid = FrameGrid.make(shape, shape, 1.0, largest, how.overlap, model.spec)
    kept: dict[Frame, FrameBorders | None] = {}
    frames = [(i, j) for i in range(len(grid.rows)) for j in range(len(grid.columns))]

    def read() -> Iterator[tuple[Frame, Batch]]:
        for frame in frames:
            yield frame, scene.inputs([grid.input_roi(frame)], model.spec)

    with closing(Prefetcher(read())) as work:
        for frame, batch in work:
            fed, place = grid.input_roi(frame), grid.labelled(frame)
            rows, columns = place.shift(-fed.y, -fed.x).slices
            with inference_mode(how.device, how.precision):
                logits = model(batch.to(how.device))["logits"][0].float()
                logits = logits[:, rows, columns]
                cell = grid.cell(frame)
                labels, _ = labels_and_confidence(
                    logits[:, : cell.height, : cell.width]
                )
                kept[frame] = FrameBorders.cut(logits, grid.overlap)
            for piece in blend(grid, frame, kept):  # those above and left are there
                labels[piece.roi.shift(-cell.y, -cell.x).slices] = piece.labels
            row, column = frame
            kept.pop((row - 1, column - 1), None)  # nobody needs it any more
            if column + 1 == len(grid.columns):
                kept.pop((row - 1, column), None)
            yield cell, labels


def evaluate(
    image: Image,
    target: GroundTruth,
    checkpoint: Checkpoint,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
) -> Scores:
    """Label the image as ``segment()`` would, and compare with the truth.

    Bands, scale, values, overlap and batch are the plan's; compared at the run's
    scale. ``target`` gives class indices in the order of the checkpoint's legend.

    Raises
    ------
    PlanError, DeviceError, ReadError
        As for a run.
    TrainingError
        The truth knows no pixel.
    """
    plan = make_plan(image, checkpoint, settings, budget)
    run = plan.run
    scene = Scene(image.name, image, target, run.bands, run.value_range, run.scale)
    frame = run.window if isinstance(plan.grid, FrameGrid) else None
    device = torch.device(plan.device.id)
    how = TilingSettings(run.overlap, run.batch_size, device, run.precision, frame)
    model = optimized(checkpoint.model, run.precision).to(how.device)
    counter = Counter([c.name for c in checkpoint.card.legend])
    for roi, labels in label_scene(model, scene, how):
        if labels is not None:
            counter.add(labels, scene.labels(roi))
    scores = counter.scores()
    if not scores.counts.sum():
        raise TrainingError(
            f"No pixel of {image.name} has a known label.",
            "Check the mask, and which of its values are ignored.",
        )
    return scores


def _blocks(shape: tuple[int, int]) -> Iterator[Roi]:
    whole = Roi(0, 0, *shape)
    for y in range(0, shape[0], BLOCK):
        for x in range(0, shape[1], BLOCK):
            yield Roi(y, x, BLOCK, BLOCK).intersect(whole)
