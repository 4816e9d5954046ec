"""Backends of ``segment``: this process, local worker processes, or a cluster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_uhrseg.cli.console import err
from napari_uhrseg.cli.shared_options import Hardware
from napari_uhrseg.types import Legend, SegmentSettings

if TYPE_CHECKING:
    from distributed import Client

    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.models.checkpoint import Checkpoint


class Backend(Protocol):
    """Checkpoint and settings, ready for one image after the other."""

    @property
    def legend(self) -> Legend:
        """Classes of the checkpoint."""

    def plan(self, image: "Image", settings: SegmentSettings) -> "Plan":
        """Return the plan of a run on the image."""

    def events(
        self,
        image: "Image",
        store: "LabelStore",
        settings: SegmentSettings,
        replace: bool,
    ) -> Iterator["SegmentEvent"]:
        """Segment an image into a store; yield the events of the run.

        Parameters
        ----------
        image
            The image to label.
        store
            The label store, opened for writing.
        settings
            Settings of the run.
        replace
            Replace labels that were computed with other settings.
        """


@contextmanager
def open_backend(
    checkpoint: Path,
    hardware: Hardware,
    scheduler: str | None,
    workers: int | None,
    cpu_fallback: bool,
) -> Iterator[Backend]:
    """Open the backend of a command. A cluster that it starts ends with it.

    Parameters
    ----------
    checkpoint
        Checkpoint file.
    hardware
        Device and memory budget.
    scheduler
        Address of a dask.distributed scheduler.
    workers
        Number of local worker processes.
    cpu_fallback
        In this process: continue on the CPU if the device runs out of memory.

    Yields
    ------
    Backend
        Without scheduler and workers it computes in this process.

    Raises
    ------
    ClusterError
        If no scheduler answers at the address.
    CheckpointError
        If the file is not a checkpoint.
    """
    with ExitStack() as stack:
        with err.status("Loading torch and the checkpoint"):
            if not scheduler and not workers:
                from napari_uhrseg.models.checkpoint import load_checkpoint

                backend: Backend = _ThisProcess(
                    load_checkpoint(checkpoint),
                    hardware.budget(),
                    cpu_fallback,
                )
            else:
                from napari_uhrseg.engine.cluster.client import connected, local_cluster
                from napari_uhrseg.models.card_header import read_card

                legend = read_card(checkpoint).legend
                budget = _worker_budget(hardware)
                client = stack.enter_context(
                    local_cluster(workers) if workers else connected(scheduler or "")
                )
                backend = _Cluster(client, checkpoint, legend, budget)
        yield backend


def _worker_budget(hardware: Hardware) -> "MemoryBudget | None":
    """Return the memory budget of a worker; ``None`` leaves it to the worker."""
    if hardware.memory_budget is None:
        return None
    # the device of the workers may not exist here
    here = replace(hardware, device="cpu").budget()
    return replace(here, device=hardware.device)


@dataclass(frozen=True, slots=True)
class _ThisProcess:
    checkpoint: "Checkpoint"
    budget: "MemoryBudget"
    cpu_fallback: bool

    @property
    def legend(self) -> Legend:
        return self.checkpoint.card.legend

    def plan(self, image: "Image", settings: SegmentSettings) -> "Plan":
        from napari_uhrseg.engine.planning.plan import make_plan

        return make_plan(image, self.checkpoint, settings, self.budget)

    def events(
        self,
        image: "Image",
        store: "LabelStore",
        settings: SegmentSettings,
        replace: bool,
    ) -> Iterator["SegmentEvent"]:
        from napari_uhrseg.engine.inference.segment import segment

        return segment(
            image,
            self.checkpoint,
            store,
            settings,
            self.budget,
            cpu_fallback=lambda _: self.cpu_fallback,
            replace_other=replace,
        )


@dataclass(frozen=True, slots=True)
class _Cluster:
    client: "Client"
    checkpoint: Path
    legend: Legend
    budget: "MemoryBudget | None"

    def plan(self, image: "Image", settings: SegmentSettings) -> "Plan":
        from napari_uhrseg.engine.cluster.client import plan_on_cluster

        return plan_on_cluster(
            self.client, image, self.checkpoint, settings, self.budget
        )

    def events(
        self,
        image: "Image",
        store: "LabelStore",
        settings: SegmentSettings,
        replace: bool,
    ) -> Iterator["SegmentEvent"]:
        from napari_uhrseg.engine.cluster.client import segment_on_cluster

        return segment_on_cluster(
            self.client,
            image,
            self.checkpoint,
            store,
            settings,
            self.budget,
            replace_other=replace,
        )
