"""Seconds of ``segment`` over seconds of the bare network on the same windows."""

import statistics
import time
from pathlib import Path

import torch
from common import sample
from rich.table import Table

from napari_uhrseg.engine.device import running
from napari_uhrseg.engine.events import Finished
from napari_uhrseg.engine.plan import Plan, make_plan
from napari_uhrseg.engine.segment import segment
from napari_uhrseg.engine.views import read_views
from napari_uhrseg.io.image import Image, open_image
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Roi, SegmentSettings

SIDE = 2048
ROUNDS = 3


def run(image: Path | None, checkpoint: Path | None) -> Table:
    opened = open_image(image or sample("scene.tif"))
    region = Roi(0, 0, min(SIDE, opened.shape[0]), min(SIDE, opened.shape[1]))
    settings = SegmentSettings(region=region)
    table = Table("checkpoint", "device", "windows", "network", "segment", "ratio")
    table.title = f"Engine: {opened.name}, {region.width} x {region.height} pixels"
    names = ("plain.safetensors", "scpseg.safetensors")
    for path in [checkpoint] if checkpoint else [sample(n) for n in names]:
        loaded = load_checkpoint(path)
        plan = make_plan(opened, loaded, settings)
        batches = list(_batches(opened, loaded, plan))
        bare, whole = [], []
        for _ in range(ROUNDS):  # by turns, so that a busy machine hits both
            bare.append(_bare(loaded, plan, batches))
            whole.append(_whole(opened, loaded, settings))
        network, engine = statistics.median(bare), statistics.median(whole)
        table.add_row(
            path.stem,
            f"{plan.device.id}, {plan.run.precision}, batch {plan.run.batch_size}",
            str(plan.windows),
            f"{network:.2f} s",
            f"{engine:.2f} s",
            f"{engine / network:.2f}",
        )
    return table


def _batches(image: Image, checkpoint: Checkpoint, plan: Plan) -> list[Batch]:
    """The run's batches, read beforehand: what the network alone is fed with."""
    region = plan.run.region
    assert isinstance(region, Roi)
    windows = list(plan.grid.touching(plan.run_region(region)))
    size = plan.run.batch_size
    return [
        read_views(
            image,
            (windows[i : i + size] + windows[:size])[:size],
            checkpoint.card.spec,
            bands=plan.run.bands,
            value_range=plan.run.value_range,
            scale=plan.run.scale,
        )
        for i in range(0, len(windows), size)
    ]


def _bare(checkpoint: Checkpoint, plan: Plan, batches: list[Batch]) -> float:
    device = torch.device(plan.device.id)
    model = checkpoint.model.to(device)
    start = time.monotonic()
    for batch in batches:
        with running(device, plan.run.precision):
            model(batch.to(device))["logits"].float()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.monotonic() - start
    # blocks run the windows on their borders twice: charged to both
    return seconds * plan.windows / (len(batches) * plan.run.batch_size)


def _whole(image: Image, checkpoint: Checkpoint, settings: SegmentSettings) -> float:
    with LabelStore.create(None, image, checkpoint.card.legend) as store:
        *_, last = segment(image, checkpoint, store, settings)
    assert isinstance(last, Finished)
    assert not last.failed
    return last.seconds
