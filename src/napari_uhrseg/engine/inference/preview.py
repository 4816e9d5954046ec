"""Preview of a checkpoint's labels in a small rectangle, without a store."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from napari_uhrseg.engine.cancellation import Cancelled, Stop, interruptible
from napari_uhrseg.engine.inference.label_windows import TilingSettings, label_windows
from napari_uhrseg.engine.inference.runner import nearest_run_pixels
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget, cpu_threads
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.network.pixel_batch import PixelBatch
from napari_uhrseg.engine.planning.plan import Plan, make_plan
from napari_uhrseg.engine.planning.run_questions import accepted
from napari_uhrseg.engine.tiling.tiling import by_tiling
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import InputSpec, Labels, Legend, Roi, Run, SegmentSettings
from napari_uhrseg.units import formatted

LARGEST_SIDE = 4096  # level-0 pixels


def segment_region(
    image: Image,
    checkpoint: Checkpoint,
    roi: Roi,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    stop: Stop | None = None,
) -> Labels:
    """Return the labels that a run over the image would give a rectangle.

    Parameters
    ----------
    image
        The image to be labelled.
    checkpoint
        The network and its card.
    roi
        Level-0 pixels, at most 4096 a side. Labels outside the image are 0.
    settings
        Settings as for ``segment()``. The region is ignored.
    budget
        Memory that the run may use. None: the default of the device.
    stop
        Polled between layers. The run ends when it returns True.

    Returns
    -------
    (h, w) uint8
        1 + the index of the class in the checkpoint's legend. 0: no data.

    Raises
    ------
    PlanError
        If the rectangle is too large or lies outside the image.
    DeviceError
        As for ``segment()``.
    Cancelled
        If ``stop()`` returned True.
    """
    if max(roi.height, roi.width) > LARGEST_SIDE:
        raise PlanError(
            f"{formatted(roi.width)} x {formatted(roi.height)} pixels are too many to "
            "compare at once.",
            f"Zoom in: at most {formatted(LARGEST_SIDE)} pixels a side.",
        )
    inside = roi.intersect(Roi(0, 0, *image.shape))
    if not inside.area:
        raise PlanError("The rectangle lies outside the image.", "Move back to it.")
    asked = replace(settings or SegmentSettings(), region=inside)
    plan = make_plan(image, checkpoint, asked, budget)
    with cpu_threads(asked.threads), interruptible(checkpoint.model, stop):
        labels = by_tiling(
            plan.grid,
            windows=partial(_by_windows, image, checkpoint, plan),
            frames=lambda _: _by_frames(image, checkpoint, asked, plan.budget),
        )
    if stop is not None and stop():
        raise Cancelled
    found = np.zeros((roi.height, roi.width), np.uint8)
    found[inside.shift(-roi.y, -roi.x).slices] = labels
    return found


def _view_reader(image: Image, spec: InputSpec, run: Run) -> partial[PixelBatch]:
    """Return the function that reads the pixels of windows."""
    return partial(
        read_pixels,
        image,
        spec=spec,
        bands=run.bands,
        value_range=run.value_range,
        scale=run.scale,
    )


def _by_windows(
    image: Image, checkpoint: Checkpoint, plan: Plan, grid: WindowGrid
) -> Labels:
    """Label the rectangle by the windows of a run's grid that touch it."""
    run = plan.run
    assert isinstance(run.region, Roi)
    device = torch.device(plan.device.id)
    model = optimized(checkpoint.model, run.precision).to(device)
    region = plan.run_region(run.region)
    read = _view_reader(image, checkpoint.card.spec, run)
    how = TilingSettings(
        run.overlap, run.batch_size, device, run.precision, ahead=plan.sized.ahead
    )
    labels = np.zeros((region.height, region.width), np.uint8)
    for _, found in label_windows(model, grid, [region], read, how):
        if found is not None:
            labels = found[0] + np.uint8(1)
    size = (region.height, region.width)
    valid = image.read(run.region, size, run.bands).valid
    rows, columns = nearest_run_pixels(run.region, region, run.scale)
    return np.asarray((labels * valid)[np.ix_(rows, columns)], np.uint8)


def _by_frames(
    image: Image,
    checkpoint: Checkpoint,
    settings: SegmentSettings,
    budget: MemoryBudget,
) -> Labels:
    """Label the rectangle in a temporary store: frames need their neighbours."""
    legend = checkpoint.card.legend
    numbered = Legend(
        tuple(replace(c, id=k) for k, c in enumerate(legend, 1))  # indices as ids
    )
    assert isinstance(settings.region, Roi)
    shown = accepted(settings, image, checkpoint.card.spec)
    with LabelStore.create(None, image, numbered) as store:
        for _ in segment(image, checkpoint, store, shown, budget):
            pass
        return read_array(store.prediction[0], settings.region.slices)
