"""Where ``segment`` runs: in this process, on workers of its own, or on a cluster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_uhrseg.cli.console import err
from napari_uhrseg.cli.options import make_budget
from napari_uhrseg.types import Legend, SegmentSettings

if TYPE_CHECKING:
    from distributed import Client

    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import Address
    from napari_uhrseg.models.checkpoint import Checkpoint


class Engine(Protocol):
    """A checkpoint and settings, ready for one image after the other."""

    @property
    def legend(self) -> Legend: ...
    def plan(self, path: "Address") -> "Plan": ...
    def events(
        self, image: "Image", store: "LabelStore", replace: bool
    ) -> Iterator["SegmentEvent"]: ...


@contextmanager
def engine(
    checkpoint: Path,
    settings: SegmentSettings,
    memory: str | None,
    scheduler: str | None,
    workers: int | None,
    cpu_fallback: bool,
) -> Iterator[Engine]:
    """What runs the images; a cluster made for it ends with it.

    ``cpu_fallback``: here a run goes on on the CPU where the device's memory is short.

    Raises ClusterError where there is no scheduler, CheckpointError where the file
    is no checkpoint.
    """
    with ExitStack() as stack:
        with err.status("Loading torch and the checkpoint"):
            if not scheduler and not workers:
                from napari_uhrseg.models.checkpoint import load_checkpoint

                made: Engine = _Here(
                    load_checkpoint(checkpoint),
                    settings,
                    make_budget(settings.device, memory),
                    cpu_fallback,
                )
            else:
                from napari_uhrseg.engine.cluster.client import connected, local_cluster
                from napari_uhrseg.models.card_header import read_card

                legend = read_card(checkpoint).legend
                budget = _asked(settings.device, memory)
                client = stack.enter_context(
                    local_cluster(workers) if workers else connected(scheduler or "")
                )
                made = _There(client, checkpoint, legend, settings, budget)
        yield made


def _asked(device: str, memory: str | None) -> "MemoryBudget | None":
    """What was asked for of a worker's memory; None leaves it to the worker."""
    if memory is None:
        return None
    return replace(make_budget("cpu", memory), device=device)


@dataclass(frozen=True, slots=True)
class _Here:
    checkpoint: "Checkpoint"
    settings: SegmentSettings
    budget: "MemoryBudget"
    cpu_fallback: bool

    @property
    def legend(self) -> Legend:
        return self.checkpoint.card.legend

    def plan(self, path: "Address") -> "Plan":
        from napari_uhrseg.engine.planning.plan import make_plan
        from napari_uhrseg.io.open import open_image

        return make_plan(open_image(path), self.checkpoint, self.settings, self.budget)

    def events(
        self, image: "Image", store: "LabelStore", replace: bool
    ) -> Iterator["SegmentEvent"]:
        from napari_uhrseg.engine.inference.segment import segment

        return segment(
            image,
            self.checkpoint,
            store,
            self.settings,
            self.budget,
            cpu_fallback=lambda _: self.cpu_fallback,
            replace_other=replace,
        )


@dataclass(frozen=True, slots=True)
class _There:
    client: "Client"
    checkpoint: Path
    legend: Legend
    settings: SegmentSettings
    budget: "MemoryBudget | None"

    def plan(self, path: "Address") -> "Plan":
        from napari_uhrseg.engine.cluster.client import plan_on_cluster
        from napari_uhrseg.io.open import open_image

        return plan_on_cluster(
            self.client, open_image(path), self.checkpoint, self.settings, self.budget
        )

    def events(
        self, image: "Image", store: "LabelStore", replace: bool
    ) -> Iterator["SegmentEvent"]:
        from napari_uhrseg.engine.cluster.client import segment_on_cluster

        return segment_on_cluster(
            self.client,
            image,
            self.checkpoint,
            store,
            self.settings,
            self.budget,
            replace_other=replace,
        )
