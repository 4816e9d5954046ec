"""``segment()``: an image becomes labels, block by block, the nearest first."""

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
    """Label the image into the store, yielding events as it goes.

    Parameters
    ----------
    image, checkpoint, store
        The store must be open for writing and have the image's shape.
    settings, budget
        What the person chose; the plan says what follows from it.
    viewport
        Asked before each block for the level-0 rectangle the person looks at:
        the nearest pending block comes next. Without it: row by row.
    stop
        Asked between the layers of the network, so that a stop need not wait for a
        large frame; where it is true the run ends as if the generator were closed.
    cpu_fallback
        Asked, with what happened in words, whether to go on on the CPU where the
        device has too little memory for a single window or the smallest frame.
    replace_other
        Overwrite what a run with other settings has labelled.
    order
        ``"near"``: the nearest to the focus; ``"likely"``: what is in focus, then
        where labels were unsure or corrected, so that a fine-tuned checkpoint shows
        at once where it differs.
    only_likely
        End after those chunks; the others stay pending.

    Yields
    ------
    SegmentEvent
        ``Planned`` before anything is written; at least one event a batch.
        ``RetriedWithLess`` where memory ran out and how it goes on.
        Closing the generator stops the run; what is in the store stays, and the
        same call continues it and ends with the same labels.

    Raises
    ------
    PlanError, DeviceError
        The settings cannot be, or a single window does not fit the memory.
    StoreError
        The store holds another run's labels and ``replace_other`` is not set.

    Notes
    -----
    Memory is bounded by the block, ``plan.estimate``; nothing grows with the
    image. On the CPU in float32, at one batch size and thread count, labels are
    the same bit for bit whatever the block size and the order of blocks.
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
    """The run as the store records it, or goes on with it, and the plan for that."""
    wanted = replace(plan.run, class_map=_class_map_in(store, network))
    store.check_run(wanted, replace=replace_other)  # before its classes are there
    store.add_classes(network)
    run = store.start_run(wanted, replace=replace_other)
    remove_stale_borders(store.path, run.id)
    if run.batch_size < plan.run.batch_size:
        # an earlier process began this run with smaller batches: keep its bits
        plan = replace(plan, run=run)
    return plan, run


def as_begun(
    settings: SegmentSettings, run: Run, network: Legend, store: LabelStore
) -> SegmentSettings:
    """With the frames of the same run in the store; its precision if none is chosen.

    Another machine may have begun it, the GPU that it began on is taken, or another
    amount of memory is free.
    """
    earlier = store.find_matching_run(
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
    """As it is once the store has the network's classes.

    Raises StoreError where it cannot hold them.
    """
    try:
        return class_map(network, store.legend.merged(network))
    except ValueError as error:
        raise StoreError(
            f"{store.path} cannot take the classes of this network: {error}.",
            "Choose another output.",
        ) from error


def class_map(network: Legend, store: Legend) -> tuple[int, ...]:
    """The store's class id of each network channel, matched by its names."""
    found = (store.named(c.name) for c in network)
    return tuple(c.id for c in found if c is not None)
