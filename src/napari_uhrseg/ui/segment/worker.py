"""Functions of the worker threads for a run: plan, check the output, run."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl, exists
from napari_uhrseg.types import Legend, Roi, SegmentSettings
from napari_uhrseg.ui.widgets.remembered import remember_entry, remembered_entry

if TYPE_CHECKING:
    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.engine.planning.run_questions import RunQuestion
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.models.checkpoint import Checkpoint

CHECKPOINTS = "checkpoints_of_labels"  # key: checkpoint files by their hash
SHARES_EVERY = 1.0  # seconds between two counts of the class areas


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """Run that the form describes.

    Parameters
    ----------
    image
        Image to segment.
    checkpoint
        Checkpoint file.
    settings
        Settings of the run.
    budget_bytes
        Memory budget on the device, in bytes. On a cluster, the budget of each worker;
        0 means the worker's default.
    output
        Label store. None: a temporary store, removed when the window closes.
    only_likely
        If True, run only the current view and the regions whose labels will most
        likely change.
    scheduler
        Address of the cluster that does the work; empty: this process.
    accepted
        True if the scale, bands and classes that the plan chooses need no question, as
        for a checkpoint that was trained on this image.
    """

    image: Image
    checkpoint: Path
    settings: SegmentSettings
    budget_bytes: int
    output: PathOrUrl | None
    only_likely: bool = False
    scheduler: str = ""
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """Request and its plan, with what the user must decide before the run.

    Attributes
    ----------
    request
        Request, with the frames and precision of a run that it continues.
    plan
        Plan of the request.
    replaces
        Checkpoints whose labels the run would replace.
    questions
        Questions that neither settings nor earlier runs answer.
    classes
        Names of the classes of the labels.
    """

    request: SegmentRequest
    plan: "Plan"
    replaces: tuple[str, ...] = ()
    questions: tuple["RunQuestion", ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreReady:
    """Event: the store is open and its coarsest levels are read.

    The run waits until the store is shown. Otherwise, it would compete for Python's
    lock with the Qt thread, which adds the layers.
    """

    store: "LabelStore"
    image: Image
    shown: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class ClassShares:
    """Event: fraction of the labelled pixels by class id, 0 to 1."""

    shares: dict[int, float]
    legend: Legend


def free_threads() -> int:
    """Return one core fewer than this process may use, because Qt needs one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores - 1)


def plan(request: SegmentRequest) -> "Plan":
    """Return the plan of a request. It loads the checkpoint, so call it in a worker."""
    from napari_uhrseg.engine.planning.plan import make_plan

    if request.scheduler:
        from napari_uhrseg.engine.cluster.client import plan_on_cluster

        return plan_on_cluster(
            request.scheduler,
            request.image,
            request.checkpoint,
            request.settings,
            _worker_budget(request),
        )
    return make_plan(
        request.image,
        checkpoint_of(request.checkpoint),
        request.settings,
        budget_of(request.settings.device, request.budget_bytes),
    )


def prepare(request: SegmentRequest, shown: "LabelStore | None" = None) -> PreparedRun:
    """Return the plan, and the checkpoints whose labels the run would replace.

    Parameters
    ----------
    request
        The run.
    shown
        Store of the view that shows the output already, if any. A temporary store is
        known only to its view.

    Raises
    ------
    StoreError
        If the output exists and is not a label store of this image.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    if shown is not None and shown.temporary and exists(shown.path):
        return _compared(request, shown)
    if request.output is None or not exists(request.output):
        planned = plan(request)
        return PreparedRun(request, planned, questions=planned.questions)
    with LabelStore.open(request.output) as store:
        return _compared(request, store)


def _check_shape(store: "LabelStore", image: Image) -> None:
    if store.shape != image.shape:
        raise StoreError(
            f"{store.path} contains the labels of another image "
            f"({store.shape[1]} x {store.shape[0]} pixels).",
            "Choose another output.",
        )


def _compared(request: SegmentRequest, store: "LabelStore") -> PreparedRun:
    from napari_uhrseg.engine.inference.segment import as_begun
    from napari_uhrseg.engine.planning.run_questions import class_ids, open_questions

    _check_shape(store, request.image)
    planned = plan(request)
    network = checkpoint_of(request.checkpoint).card.legend
    begun = as_begun(request.settings, planned.run, network, store)
    if begun != request.settings:
        request = replace(request, settings=begun)
        planned = plan(request)
    hashed = planned.run.checkpoint_hash
    classes = class_ids(network, store, request.settings, hashed)
    wanted = replace(planned.run, class_map=classes.ids)
    others = store.run_ledger.conflicts(wanted)
    return PreparedRun(
        request,
        planned,
        tuple(r.checkpoint for r in others),
        open_questions(planned.questions, wanted, classes, store),
        tuple(c.name for c in store.legend if c.id not in store.aliases),
    )


def run(
    focus: Callable[[], Roi | None],
    stop: Callable[[], bool],
    fall_back: Callable[[str], bool],
    request: SegmentRequest,
    replacing: bool,
    shown: "LabelStore | None" = None,
) -> Iterator["StoreReady | ClassShares | SegmentEvent | None"]:
    """Open or create the store and run `segment()`; yield its events and class areas.

    Parameters
    ----------
    focus
        Function that returns the region in view; it is segmented first.
    stop
        Function that returns True when the run is cancelled.
    fall_back
        Function that asks whether to continue on the CPU when the device has too
        little memory.
    request
        The run.
    replacing
        True to replace labels made with other settings.
    shown
        Store of the view that shows the output already, if any. The run writes to
        this object, so that the view sees the changes.

    Yields
    ------
    The store when it is ready, the events of the run, and the class areas about once a
    second. None while the run waits for the store to be shown.
    """
    for name in ("pandas", "skimage.color.colorconv"):
        import_module(name)  # else napari imports it on the Qt thread
    checkpoint = checkpoint_of(request.checkpoint)
    if request.accepted:
        request = _accepted(request, checkpoint)
    remember_checkpoint(checkpoint.hash, request.checkpoint)
    store = open_store(request, checkpoint, shown)
    try:
        store.coarsest_displayed()
        store.coarsest_corrections()
        store.coarsest_confidence()
        opened = StoreReady(store, request.image)
        yield opened
        while not opened.shown.wait(0.02):
            yield None  # the run can be cancelled here
        run_events = _start(request, store, replacing, focus, stop, fall_back)
        yield from _with_shares(run_events, store)
    finally:
        if store is shown or not store.temporary:
            store.release()  # the store can still be read


def _accepted(request: SegmentRequest, checkpoint: "Checkpoint") -> SegmentRequest:
    from napari_uhrseg.engine.planning.run_questions import accepted

    spec = checkpoint.card.spec
    settings = accepted(request.settings, request.image, spec)
    return replace(request, settings=settings)


def _start(
    request: SegmentRequest,
    store: "LabelStore",
    replacing: bool,
    focus: Callable[[], Roi | None],
    stop: Callable[[], bool],
    fall_back: Callable[[str], bool],
) -> Iterator["SegmentEvent"]:
    """Return the events of the run, on the cluster or in this process."""
    if request.scheduler and not request.only_likely:
        from napari_uhrseg.engine.cluster.client import segment_on_cluster

        return segment_on_cluster(
            request.scheduler,
            request.image,
            request.checkpoint,
            store,
            request.settings,
            _worker_budget(request),
            viewport=focus,
            stop=stop,
            replace_other=replacing,
        )
    from napari_uhrseg.engine.inference.segment import segment

    return segment(
        request.image,
        checkpoint_of(request.checkpoint),
        store,
        replace(request.settings, threads=free_threads()),
        budget_of(request.settings.device, request.budget_bytes),
        viewport=focus,
        stop=stop,
        cpu_fallback=fall_back,
        replace_other=replacing,
        only_likely=request.only_likely,
    )


def _with_shares(
    run_events: Iterator["SegmentEvent"], store: "LabelStore"
) -> Iterator["ClassShares | SegmentEvent"]:
    """Add the class areas to the events of a run, about once a second."""
    from napari_uhrseg.engine.events import BlockDone, PreviewWritten

    counted = 0.0
    for event in run_events:
        yield event
        due = time.monotonic() > counted + SHARES_EVERY
        if due and isinstance(event, BlockDone | PreviewWritten):
            counted = time.monotonic()
            yield ClassShares(store.area_shares(), store.legend)


def open_store(
    request: SegmentRequest, checkpoint: "Checkpoint", shown: "LabelStore | None"
) -> "LabelStore":
    """Open or create the label store of a run, with its write lock.

    Parameters
    ----------
    request
        Run with the output and the image.
    checkpoint
        Checkpoint whose legend a new store gets.
    shown
        Store of the view that shows the output already, if any. It is reused.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    if shown is not None and exists(shown.path):
        shown.acquire()
        return shown
    if request.output is not None and exists(request.output):
        return LabelStore.open(request.output, write=True)
    return LabelStore.create(request.output, request.image, checkpoint.card.legend)


def _worker_budget(request: SegmentRequest) -> "MemoryBudget | None":
    """Return the budget of each cluster worker; None means its default."""
    if not request.budget_bytes:
        return None
    return replace(
        budget_of("cpu", request.budget_bytes), device=request.settings.device
    )


def budget_of(device: str, device_bytes: int) -> "MemoryBudget":
    """Return a budget of ``device_bytes`` on the device and the default elsewhere.

    0 means the default of the device.
    """
    from napari_uhrseg.engine.network.device import MemoryBudget

    default = MemoryBudget.default(device)
    return replace(default, device_bytes=device_bytes or default.device_bytes)


def remember_checkpoint(checkpoint_hash: str, path: Path) -> None:
    """Remember the file of a checkpoint, which labels name by its hash."""
    remember_entry(CHECKPOINTS, checkpoint_hash, str(path.absolute()))


def remembered_checkpoint(checkpoint_hash: str) -> Path | None:
    """Return the file of a checkpoint that made labels, if it still exists."""
    found = remembered_entry(CHECKPOINTS, checkpoint_hash)
    path = Path(found) if isinstance(found, str) else None
    return path if path is not None and path.is_file() else None


def checkpoint_of(path: Path) -> "Checkpoint":
    """Return a checkpoint. The last one stays loaded."""
    return _loaded(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1)
def _loaded(path: Path, changed: int) -> "Checkpoint":
    """Load a checkpoint, cached because each change of the form makes a new plan."""
    from napari_uhrseg.models.checkpoint import load_checkpoint

    return load_checkpoint(path)
