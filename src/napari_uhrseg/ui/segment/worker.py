"""What the worker threads do for a run: plan it, look at the store, run it."""

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
from napari_uhrseg.io.paths import Address, exists
from napari_uhrseg.types import Legend, Roi, SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.models.checkpoint import Checkpoint

SHARES_EVERY = 1.0  # seconds between two counts of the class areas


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """A run as the form says it.

    ``output`` None: as long as the window. ``only_likely``: end after what is in view
    and where labels will most likely be others than those that are there.
    ``scheduler``: the address of a cluster that does the work; empty: this process.
    ``budget_bytes``: on its device; on a cluster each worker's, 0 for its default.
    """

    image: Image
    checkpoint: Path
    settings: SegmentSettings
    budget_bytes: int
    output: Address | None
    only_likely: bool = False
    scheduler: str = ""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A request, its plan, and which checkpoints' labels it would replace."""

    request: SegmentRequest
    plan: "Plan"
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreReady:
    """The store is there, its coarsest levels are read: it can be shown.

    The run waits until it is: making the layers takes the Qt thread long enough
    without the run taking Python's lock from it all the time.
    """

    store: "LabelStore"
    image: Image
    shown: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class ClassShares:
    """Class id to its fraction of the pixels labelled so far."""

    shares: dict[int, float]
    legend: Legend


def free_threads() -> int:
    """One core fewer than this process may use: Qt needs one to stay responsive."""
    there = getattr(os, "sched_getaffinity", None)
    cores = len(there(0)) if there else os.cpu_count() or 1
    return max(1, cores - 1)


def plan(request: SegmentRequest) -> "Plan":
    """The plan of the request; loads the checkpoint, so not on the Qt thread."""
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


def prepare(request: SegmentRequest, kept: "LabelStore | None" = None) -> PreparedRun:
    """The plan, and whose labels at the output the run would replace.

    ``kept`` is the store of the view that shows the output already: one that lasts as
    long as the window can be found nowhere else.

    Raises
    ------
    StoreError
        Something lies at the output that is no label store of this image.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    if kept is not None and kept.temporary and exists(kept.path):
        return _compared(request, kept)
    if request.output is None or not exists(request.output):
        return PreparedRun(request, plan(request))
    with LabelStore.open(request.output) as store:
        return _compared(request, store)


def _compared(request: SegmentRequest, store: "LabelStore") -> PreparedRun:
    from napari_uhrseg.engine.inference.segment import as_begun, class_map

    if store.shape != request.image.shape:
        raise StoreError(
            f"{store.path} holds the labels of another image "
            f"({store.shape[1]} x {store.shape[0]} pixels).",
            "Choose another output.",
        )
    planned = plan(request)
    network = checkpoint_of(request.checkpoint).card.legend
    begun = as_begun(request.settings, planned.run, network, store)
    if begun != request.settings:
        request = replace(request, settings=begun)
        planned = plan(request)
    ids = class_map(network, store.legend.merged(network))
    others = store.conflicts(replace(planned.run, class_map=ids))
    return PreparedRun(request, planned, tuple(r.checkpoint for r in others))


def run(
    focus: Callable[[], Roi | None],
    stop: Callable[[], bool],
    fall_back: Callable[[str], bool],
    request: SegmentRequest,
    replacing: bool,
    kept: "LabelStore | None" = None,
) -> Iterator["StoreReady | ClassShares | SegmentEvent | None"]:
    """Open or make the store, then ``segment()``, with the class areas now and then.

    ``fall_back`` is asked whether to go on on the CPU where a device has too little
    memory. ``kept`` is the store of the view that shows the output already: the run
    writes into this very object, so that what is shown knows of it.
    """
    from napari_uhrseg.engine.inference.segment import segment

    for name in ("pandas", "skimage.color.colorconv"):
        import_module(name)  # napari would at the first labels, on the Qt thread
    checkpoint = checkpoint_of(request.checkpoint)
    store = _open_store(request, checkpoint, kept)
    try:
        store.coarsest_displayed()
        store.coarsest_corrections()
        store.coarsest_confidence()
        opened = StoreReady(store, request.image)
        yield opened
        while not opened.shown.wait(0.02):
            yield None  # where the run can be cancelled
        if request.scheduler and not request.only_likely:
            from napari_uhrseg.engine.cluster.client import segment_on_cluster

            run_events = segment_on_cluster(
                request.scheduler,
                request.image,
                request.checkpoint,
                store,
                request.settings,
                _worker_budget(request),
                focus,
                stop,
                replace_other=replacing,
            )
        else:
            run_events = segment(
                request.image,
                checkpoint,
                store,
                replace(request.settings, threads=free_threads()),
                budget_of(request.settings.device, request.budget_bytes),
                focus,
                stop,
                fall_back,
                replace_other=replacing,
                order="likely" if request.only_likely else "near",
                only_likely=request.only_likely,
            )
        yield from _with_shares(run_events, store)
    finally:
        if store is kept or not store.temporary:
            store.release()  # what is shown can still be read


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


def _open_store(
    request: SegmentRequest, checkpoint: "Checkpoint", kept: "LabelStore | None"
) -> "LabelStore":
    from napari_uhrseg.io.labels.store import LabelStore

    if kept is not None and exists(kept.path):
        kept.acquire()
        return kept
    if request.output is not None and exists(request.output):
        return LabelStore.open(request.output, write=True)
    return LabelStore.create(request.output, request.image, checkpoint.card.legend)


def _worker_budget(request: SegmentRequest) -> "MemoryBudget | None":
    """What each worker may take; None: what it takes by default."""
    if not request.budget_bytes:
        return None
    return replace(
        budget_of("cpu", request.budget_bytes), device=request.settings.device
    )


def budget_of(device: str, device_bytes: int) -> "MemoryBudget":
    """What the person allows on the device; beside it, main memory as usual."""
    from napari_uhrseg.engine.network.device import MemoryBudget

    default = MemoryBudget.default(device)
    return MemoryBudget(default.device, device_bytes, default.host_bytes)


def checkpoint_of(path: Path) -> "Checkpoint":
    """The checkpoint, loaded unless it was the last one loaded."""
    return _loaded(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1)
def _loaded(path: Path, changed: int) -> "Checkpoint":
    """The last checkpoint stays loaded: each change of the form plans anew."""
    from napari_uhrseg.models.checkpoint import load_checkpoint

    return load_checkpoint(path)
