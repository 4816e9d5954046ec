"""Segmentation of an image into a label store, block by block.

Memory is bounded by ``plan.estimate`` and does not grow with the image. On the CPU in
float32, at one batch size and thread count, labels are the same bit for bit for every
block size and order of blocks.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from napari_uhrseg.engine.cancellation import Stop, Viewport
from napari_uhrseg.engine.events import Planned, SegmentEvent
from napari_uhrseg.engine.inference.change_priority import (
    PriorityViewport,
    change_priority,
    chunks_to_rerun,
)
from napari_uhrseg.engine.inference.frame_runner import FrameRunner
from napari_uhrseg.engine.inference.out_of_memory import CpuFallback
from napari_uhrseg.engine.inference.runner import RunContext
from napari_uhrseg.engine.inference.window_runner import WindowRunner
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.planning.plan import Plan, make_plan
from napari_uhrseg.engine.planning.run_questions import (
    check_answered,
    class_ids,
    open_questions,
)
from napari_uhrseg.engine.tiling.frame_seams import remove_stale_borders
from napari_uhrseg.engine.tiling.tiling import by_tiling
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.repair import repair
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.tissue.stored_mask import read_tissue, write_tissue
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import BoolMask, Legend, Run, SegmentSettings

logger = logging.getLogger(__name__)


def segment(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    *,
    viewport: Viewport | None = None,
    stop: Stop | None = None,
    cpu_fallback: CpuFallback | None = None,
    replace_other: bool = False,
    only_likely: bool = False,
) -> Iterator[SegmentEvent]:
    """Segment the image into the store; yield events during the run.

    Parameters
    ----------
    image, checkpoint
        The image to be labelled; the network and its card.
    store
        Label store of the image's shape, open for writing.
    settings
        Settings of the user. None: the defaults.
    budget
        Memory that the run may use. None: the default of the device.
    viewport
        Returns the level-0 rectangle in sight, before each block. None: row by row.
    stop
        Polled between the layers of the network. If it returns True, the run ends.
    cpu_fallback
        Returns whether to continue on the CPU if one window or frame does not fit.
    replace_other
        If True, overwrite the labels of a run with other settings.
    only_likely
        If True, run only visible chunks and those whose labels probably change.

    Yields
    ------
    SegmentEvent
        ``Planned`` before anything is written; then at least one event per batch.
        Closing the generator stops the run, and the same call continues it.

    Raises
    ------
    PlanError, DeviceError, StoreError
        If the settings, the memory, a question without an answer (see
        `run_questions`), or labels of another run prevent this run.
    """
    settings = settings or SegmentSettings()
    plan = _plan_as_begun(image, checkpoint, store, settings, budget)
    yield Planned(plan)
    legend = checkpoint.card.legend
    plan, run = begin(plan, legend, store, replace_other, settings)
    only = None
    if only_likely:
        viewport, only = _likely_first(store, run, viewport)
    context = RunContext(
        image, checkpoint, store, plan, run, settings.threads, stop, only, cpu_fallback
    )
    yield from make_runner(context).events(viewport)


def _plan_as_begun(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    settings: SegmentSettings,
    budget: MemoryBudget | None,
) -> Plan:
    """Return the plan, with the frames and precision of a run to be continued."""
    plan = make_plan(image, checkpoint, settings, budget)
    begun = as_begun(settings, plan.run, checkpoint.card.legend, store)
    return plan if begun == settings else make_plan(image, checkpoint, begun, budget)


def _likely_first(
    store: LabelStore, run: Run, viewport: Viewport | None
) -> tuple[Viewport, BoolMask]:
    """Return a viewport that prefers likely changes, and the chunks to run.

    A fine-tuned checkpoint then shows early where its labels differ.
    """
    scores = change_priority(store)
    only = chunks_to_rerun(scores, viewport() if viewport else None)
    return PriorityViewport(scores, partial(store.pending, run), viewport), only


def make_runner(context: RunContext) -> FrameRunner | WindowRunner:
    """Return the runner of the windows or frames of a plan."""
    return by_tiling(
        context.plan.grid,
        windows=partial(WindowRunner, context),
        frames=partial(FrameRunner, context),
    )


def begin(
    plan: Plan,
    network: Legend,
    store: LabelStore,
    replace_other: bool,
    settings: SegmentSettings,
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
    settings
        Settings of the user, which may answer the questions of the run.

    Returns
    -------
    plan, run
        The plan for the recorded run, and the run.

    Raises
    ------
    PlanError
        If a question of the run has no answer.
    StoreError
        If the store has labels of another run and ``replace_other`` is not set.
    """
    classes = class_ids(network, store, settings, plan.run.checkpoint_hash)
    wanted = replace(plan.run, class_map=classes.ids)
    check_answered(open_questions(plan.questions, wanted, classes, store))
    store.run_ledger.check_run(
        wanted, replace=replace_other
    )  # before its classes are added
    lost = repair(store)
    if lost:
        # their frames have to run again
        remove_stale_borders(store.path, run_id=0)
        logger.warning(
            "%d blocks of %s have damaged files. Their labels are computed again.",
            lost, store.path,
        )  # fmt: skip
    store.legend_editor.add_classes(classes.added)
    if plan.tissue is not None and read_tissue(store.path, store.shape) != plan.tissue:
        write_tissue(store, plan.tissue)
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
    ids = class_ids(network, store, settings, run.checkpoint_hash).ids
    earlier = store.run_ledger.find_matching_run(
        replace(run, class_map=ids), any_precision=settings.precision == "auto"
    )
    if earlier is None or (earlier.precision, earlier.window) == (
        run.precision,
        run.window,
    ):
        return settings
    return replace(settings, precision=earlier.precision, frame=earlier.frame)


def class_map(network: Legend, store: Legend) -> tuple[int, ...]:
    """Return the store's class id of each network channel, matched by name."""
    found = (store.named(c.name) for c in network)
    return tuple(c.id for c in found if c is not None)
