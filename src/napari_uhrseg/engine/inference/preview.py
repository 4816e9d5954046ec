"""What a checkpoint would label in a small rectangle, without a store."""

from dataclasses import replace

import numpy as np
import torch

from napari_uhrseg.engine.cancellation import Cancelled, Stop, interruptible
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import (
    MemoryBudget,
    cpu_threads,
    inference_mode,
)
from napari_uhrseg.engine.network.inputs import read_views
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.planning.plan import Plan, make_plan
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.engine.tiling.merge import make_merger, window_weights
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import Labels, Legend, Roi, SegmentSettings

LARGEST = 4096  # pixels a side


def segment_region(
    image: Image,
    checkpoint: Checkpoint,
    roi: Roi,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    stop: Stop | None = None,
) -> Labels:
    """The labels that a run over the image would give a rectangle.

    Parameters
    ----------
    roi
        In level-0 pixels, at most 4096 a side; 0 where it reaches outside the image.
    settings, budget
        As of a run; the region among them is not used.
    stop
        Asked between layers.

    Returns
    -------
    (h, w) uint8: 1 + the class's place in the checkpoint's legend; 0: no image there.

    Raises
    ------
    PlanError
        The rectangle is too large or lies outside the image.
    DeviceError
        As of a run.
    Cancelled
        ``stop()`` was true (see engine/inference/runner.py).
    """
    if max(roi.height, roi.width) > LARGEST:
        raise PlanError(
            f"{roi.width:,} x {roi.height:,} pixels are too many to compare at once.",
            f"Zoom in: at most {LARGEST:,} pixels a side.",
        )
    inside = roi.intersect(Roi(0, 0, *image.shape))
    if not inside.area:
        raise PlanError("The rectangle lies outside the image.", "Move back to it.")
    asked = replace(settings or SegmentSettings(), region=inside)
    plan = make_plan(image, checkpoint, asked, budget)
    by = _by_frames if isinstance(plan.grid, FrameGrid) else _by_windows
    with cpu_threads(asked.threads), interruptible(checkpoint.model, stop):
        labels = by(image, checkpoint, asked, plan)
    if stop is not None and stop():
        raise Cancelled
    found = np.zeros((roi.height, roi.width), np.uint8)
    found[inside.shift(-roi.y, -roi.x).slices] = labels
    return found


def _by_windows(
    image: Image, checkpoint: Checkpoint, settings: SegmentSettings, plan: Plan
) -> Labels:
    """The windows that touch the rectangle, of the grid that a run has."""
    run, spec, grid = plan.run, checkpoint.card.spec, plan.grid
    assert isinstance(run.region, Roi)
    assert isinstance(grid, WindowGrid)
    device = torch.device(plan.device.id)
    model = optimized(checkpoint.model, run.precision).to(device)
    region = plan.run_region(run.region)
    weights = window_weights(run.window, run.overlap, spec.merge)
    classes = len(checkpoint.card.legend)
    merger = make_merger(grid, region, classes, weights, device)
    windows = list(grid.touching(region))
    for first in range(0, len(windows), run.batch_size):
        some = windows[first : first + run.batch_size]
        batch = read_views(
            image, some, spec, bands=run.bands, value_range=run.value_range,
            scale=run.scale,
        )  # fmt: skip
        # short batches are padded: kernels depend on the batch's size
        index = torch.arange(run.batch_size).clamp(max=len(some) - 1)
        with inference_mode(device, run.precision):
            logits = model(batch[index].to(device))["logits"]
        merger.add(some, logits[: len(some)])
    with torch.inference_mode():
        labels = merger.finish()[0] + np.uint8(1)
    size = (region.height, region.width)
    valid = image.read(run.region, size, run.bands).valid
    rows, columns = (
        np.minimum(((np.arange(a, b) + 0.5) / run.scale).astype(int) - start, last - 1)
        for a, b, start, last in (
            (run.region.y, run.region.bottom, region.y, region.height),
            (run.region.x, run.region.right, region.x, region.width),
        )
    )
    return np.asarray((labels * valid)[np.ix_(rows, columns)], np.uint8)


def _by_frames(
    image: Image, checkpoint: Checkpoint, settings: SegmentSettings, plan: Plan
) -> Labels:
    """A run into a store that is thrown away: frames need their neighbours."""
    legend = checkpoint.card.legend
    numbered = Legend(
        tuple(replace(c, id=k) for k, c in enumerate(legend, 1))  # places as ids
    )
    assert isinstance(plan.run.region, Roi)
    with LabelStore.create(None, image, numbered) as store:
        for _ in segment(image, checkpoint, store, settings, plan.budget):
            pass
        return read_array(store.prediction[0], plan.run.region.slices)
