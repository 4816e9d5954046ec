"""Compare the seconds of ``segment`` with those of the network on the same windows.

The network alone gets batches that are read and normalised beforehand: as it was
loaded, and *ready*, the copy that a run makes of it, with its batch norms folded.
``segment`` also decodes the image, makes labels and confidence of the logits, and
writes both with their coarser levels. They run in turns, so that a busy machine slows
all of them. The ratio is to the network as it was loaded, and in brackets to the one
made ready.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from common import sample, tiled, unet
from rich.table import Table

from napari_uhrseg.engine.events import Finished
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import inference_mode
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.planning.plan import Plan, make_plan
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Roi, SegmentSettings


@dataclass(frozen=True)
class Size:
    """Side of the image in pixels, and how often each combination is measured."""

    side: int = 4096
    rounds: int = 3
    samples: tuple[str, ...] = ("plain", "scpseg")
    precisions: tuple[str, ...] = ("fp32", "bf16")
    compressions: tuple[str, ...] = ("plain", "jpeg")
    usual: bool = True  # a network of the usual size too


FULL = Size()
TINY = Size(256, 1, ("plain",), ("fp32",), ("jpeg",), usual=False)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure the networks on an uncompressed and on a JPEG image."""
    table = Table("network", "run", "image", "network", "ready", "segment")
    table.add_column("ratio (spread) [to ready]")
    if checkpoint:
        networks = [load_checkpoint(checkpoint)]
    else:
        names = (f"{name}.safetensors" for name in size.samples)
        networks = [load_checkpoint(sample(name)) for name in names]
        networks += [unet()] if size.usual else []
    with tempfile.TemporaryDirectory() as folder:
        files = [image] if image else [
            tiled(Path(folder) / f"{kind}.tif", size.side,
                  None if kind == "plain" else kind)
            for kind in size.compressions
        ]  # fmt: skip
        for network in networks:
            for precision in size.precisions:
                for file in files:
                    table.add_row(*_row(network, file, precision, size))
    table.title = (
        f"Engine, {size.side} x {size.side} pixels, no overlap, {size.rounds} rounds"
    )
    return table


def _row(
    network: Checkpoint, file: Path, precision: str, size: Size
) -> tuple[str, ...]:
    opened = open_image(file)
    region = Roi(0, 0, *(min(size.side, n) for n in opened.shape))
    settings = SegmentSettings(precision=precision, region=region, overlap=0, scale=1)
    plan = make_plan(opened, network, settings)
    batches = list(_batches(opened, network, plan))
    ready = optimized(network.model, plan.run.precision)
    rounds = [
        (
            _bare(network.model, plan, batches),
            _bare(ready, plan, batches),
            _whole(opened, network, settings),
        )
        for _ in range(size.rounds + 1)
    ][1:]  # the first one warms all up
    ratios = [engine / bare for bare, _, engine in rounds]
    to_ready = statistics.median(engine / ready for _, ready, engine in rounds)
    bare, made, engine = (statistics.median(c) for c in zip(*rounds, strict=True))
    return (
        network.path.stem,
        f"{plan.device.id}, {precision}, batch {plan.run.batch_size}",
        f"{file.stem}, {plan.windows} windows",
        f"{bare:.2f} s",
        f"{made:.2f} s",
        f"{engine:.2f} s",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        f" [{to_ready:.2f}]",
    )


def _batches(image: Image, checkpoint: Checkpoint, plan: Plan) -> list[Batch]:
    """Read all batches of the run, as input of the network alone."""
    region = plan.run.region
    assert isinstance(region, Roi)
    windows = list(plan.grid.touching(plan.run_region(region)))
    size = plan.run.batch_size
    return [
        read_pixels(
            image,
            (windows[i : i + size] + windows[:size])[:size],
            checkpoint.card.spec,
            bands=plan.run.bands,
            value_range=plan.run.value_range,
            scale=plan.run.scale,
        ).normalized(torch.device("cpu"))
        for i in range(0, len(windows), size)
    ]


def _bare(model: Segmenter, plan: Plan, batches: list[Batch]) -> float:
    device = torch.device(plan.device.id)
    model.to(device)
    start = time.monotonic()
    for batch in batches:
        with inference_mode(device, plan.run.precision):
            model(batch.to(device))["logits"].float()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.monotonic() - start
    # blocks run the windows on their borders twice: charged to both
    return seconds * plan.windows / (len(batches) * plan.run.batch_size)


def _whole(image: Image, checkpoint: Checkpoint, settings: SegmentSettings) -> float:
    CHUNK_CACHE.clear()
    with LabelStore.create(None, image, checkpoint.card.legend) as store:
        *_, last = segment(image, checkpoint, store, settings)
    assert isinstance(last, Finished)
    assert not last.failed
    return last.seconds
