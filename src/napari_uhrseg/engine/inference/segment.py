"""Segmentation of an image into a label store, block by block."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

from napari_uhrseg.engine.cancellation import Stop, Viewport
from napari_uhrseg.engine.events import Planned, SegmentEvent
from napari_uhrseg.engine.inference.change_priority import (
    PriorityViewport,
    change_priority,
    chunks_to_rerun,
)
from napari_uhrseg.engine.inference.frame_runner import FrameRunner
from napari_uhrseg.engine.inference.runner import CpuFallback, RunContext, Runner
from napari_uhrseg.engine.inference.window_runner import WindowRunner
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.planning.plan import Plan, make_plan
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.engine.tiling.seam_blending import remove_stale_borders
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import Legend, Run, SegmentSettings


def segment(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    viewport: Viewport | None = None,
    stop: Stop | None = None,
    cpu_fallback: CpuFallback | None = None,
    *,
    replace_other: bool = False,
    order: Literal["near", "likely"] = "near",
    only_likely: bool = False,
) -> Iterator[SegmentEvent]:
    """Segment the image into the store; yield events during the run.

    Parameters
    ----------
    image
        The image to be labelled.
    checkpoint
        The network and its card.
    store
        Label store of the image's shape, open for writing.
    settings
        Settings of the user. None: the defaults.
    budget
        Memory that the run may use. None: the default of the device.
    viewport
        Called before each block. It returns the level-0 rectangle in sight, and the
        nearest pending block comes next. None: row by row.
    stop
        Polled between the layers of the network, since a frame may take minutes. When
        it returns True, the run ends as if the generator were closed.
    cpu_fallback
        Called with a message if the device has too little memory for a single window
        or the smallest frame. It returns whether to continue on the CPU.
    replace_other
        If True, overwrite the labels of a run with other settings.
    order
        ``"near"``: the nearest to the viewport first. ``"likely"``: visible chunks
        first, then chunks whose labels are uncertain or corrected, so that a
        fine-tuned checkpoint shows early where it differs.
    only_likely
        If True, end after these chunks. The others stay pending.

    Yields
    ------
    SegmentEvent
        ``Planned`` before anything is written; then at least one event for each
        batch. ``RetriedWithLess`` if memory ran out. Closing the generator stops the
        run. Finished blocks are kept, and the same call continues the run and ends
        with the same labels.

    Raises
    ------
    PlanError, DeviceError
        If the settings are invalid, or a single window does not fit the memory.
    StoreError
        If the store has labels of another run and ``replace_other`` is not set.

    Notes
    -----
    Memory is bounded by ``plan.estimate`` and does not grow with the image. On the
    CPU in float32, at one batch size and thread count, labels are the same bit for
    bit for every block size and order of blocks.
    """
    settings = settings or SegmentSettings()
    plan = make_plan(image, checkpoint, settings, budget)
    begun = as_begun(settings, plan.run, checkpoint.card.legend, store)
    if begun != settings:
        plan = make_plan(image, checkpoint, begun, budget)
    yield Planned(plan)
    plan, run = begin(plan, checkpoint.card.legend, store, replace_other)
    only = None
    if order == "likely" or only_likely:
        scores = change_priority(store)
        if only_likely:
            only = chunks_to_rerun(scores, viewport() if viewport else None)
        viewport = PriorityViewport(scores, partial(store.pending, run), viewport)
    work = RunContext(
        image, checkpoint, store, plan, run, settings.threads, stop, only, cpu_fallback
    )
    job: Runner = (
        FrameRunner(work, plan.grid)
        if isinstance(plan.grid, FrameGrid)
        else WindowRunner(work, plan.grid)
    )
    yield from job.events(viewport)


def begin(
    plan: Plan, network: Legend, store: LabelStore, replace_other: bool
) -> tuple[Plan, Run]:
    """Record a run in the store, or find the run that it continues.

    Parameters
    ----------
    plan
        The plan of the run.
    network
        The classes of the network.
    store
        Open for writing.
    replace_other
        If True, overwrite the labels of a run with other settings.

    Returns
    -------
    plan, run
        The plan for the recorded run, and the run.

    Raises
    ------
    StoreError
        If the store has labels of another run and ``replace_other`` is not set.
    """
    wanted = replace(plan.run, class_map=_class_map_in(store, network))
    store.run_ledger.check_run(
        wanted, replace=replace_other
    )  # before its classes are added
    store.legend_editor.add_classes(network)
    run = store.run_ledger.start_run(wanted, replace=replace_other)
    remove_stale_borders(store.path, run.id)
    if run.batch_size < plan.run.batch_size:
        # an earlier process started this run with smaller batches: keep its bits
        plan = replace(plan, run=run)
    return plan, run


def as_begun(
    settings: SegmentSettings, run: Run, network: Legend, store: LabelStore
) -> SegmentSettings:
    """Return the settings with the frames and precision of the run to be continued.

    The run may have started on another machine, on a GPU that is in use now, or with
    another amount of free memory.

    Parameters
    ----------
    settings
        Settings of the user. A precision other than ``"auto"`` is kept.
    run
        The run as planned for these settings.
    network
        The classes of the network.
    store
        The store that may have the run.
    """
    earlier = store.run_ledger.find_matching_run(
        replace(run, class_map=_class_map_in(store, network)),
        any_precision=settings.precision == "auto",
    )
    if earlier is None or (earlier.precision, earlier.window) == (
        run.precision,
        run.window,
    ):
        return settings
    frame = earlier.window if earlier.placement == "frame" else None
    return replace(settings, precision=earlier.precision, frame=frame)


def _class_map_in(store: LabelStore, network: Legend) -> tuple[int, ...]:
    """Return the class map that results once the store has the network's classes.

    Raises StoreError if the store cannot take them.
    """
    try:
        return class_map(network, store.legend.merged(network))
    except ValueError as error:
        raise StoreError(
            f"{store.path} cannot take the classes of this network: {error}.",
            "Choose another output.",
        ) from error


def class_map(network: Legend, store: Legend) -> tuple[int, ...]:
    """Return the store's class id of each network channel, matched by name."""
    found = (store.named(c.name) for c in network)
    return tuple(c.id for c in found if c is not None)
