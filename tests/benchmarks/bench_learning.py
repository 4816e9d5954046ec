"""Compare the steps per second of fine-tuning with a bare loop over tensors in memory.

Sample checkpoints learn some strokes on the sample scene. The bare loop has the batches
in memory, and the same objective (with the old network's answers), optimiser and
clipping. ``fine_tune`` also draws and reads its windows, and in the second figure
validates and writes the checkpoint five times. They run in turns, so that a busy
machine slows both.
"""

import copy
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import rasterio
import torch
from common import sample
from rich.table import Table
from simulated_user import paint
from torch import nn

from napari_uhrseg.engine.data.batches import batches
from napari_uhrseg.engine.events import Progress
from napari_uhrseg.engine.finetuning.distillation import DistillationLoss
from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.finetuning.training_summary import build_dataset
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.samples import data_dir
from napari_uhrseg.types import Roi


@dataclass(frozen=True)
class Size:
    """Steps of a fine-tuning, windows a step, batches in memory, and repetitions.

    ``side`` is that of the scene's part in pixels, or None for all of it.
    """

    steps: int = 100  # a quick fine-tuning, with its five validations
    batch: int = 6
    in_memory: int = 8
    rounds: int = 2
    samples: tuple[str, ...] = ("plain", "scpseg")
    strokes: int = 20
    side: int | None = None
    warm_up: int = 1  # rounds that are not counted


FULL, TINY = Size(), Size(3, 2, 1, 1, ("plain",), 5, 512, 0)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure the sample checkpoints on the sample scene; takes no image."""
    del image
    table = Table("network", "bare loop", "steps alone", "ratio")
    table.add_column("with validations")
    table.add_column("ratio")
    table.title = (
        f"Fine-tuning, {size.steps} steps of {size.batch} windows, {size.rounds} rounds"
    )
    scene = open_image(data_dir() / "scene.tif")
    with rasterio.open(data_dir() / "scene_labels.tif") as file:
        truth = file.read(1)[: size.side, : size.side]
    if size.side:
        pixels = scene.read(Roi(0, 0, size.side, size.side)).data
        scene = image_from_array(pixels, name=scene.name, rgb=True)
    if checkpoint:
        networks = [load_checkpoint(checkpoint)]
    else:
        names = (f"{name}.safetensors" for name in size.samples)
        networks = [load_checkpoint(sample(name)) for name in names]
    for network in networks:
        legend = network.card.legend
        with LabelStore.create(None, scene, legend) as store:
            paint(store, truth, truth * 0, truth > 0, strokes=size.strokes, radius=24)
            rounds = [
                (
                    _bare(scene, network, store, size),
                    *_whole(scene, network, store, size),
                )
                for _ in range(size.warm_up + size.rounds)
            ][size.warm_up :]
        bare, steps, whole = (statistics.median(c) for c in zip(*rounds, strict=True))
        row = [network.path.stem, f"{1 / bare:.2f} a second"]
        for kind, seconds in ((1, steps), (2, whole)):
            ratios = [r[0] / r[kind] for r in rounds]
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            row += [
                f"{1 / seconds:.2f} a second",
                f"{statistics.median(ratios):.2f} {spread}",
            ]
        table.add_row(*row)
    return table


def _bare(scene: Image, network: Checkpoint, store: LabelStore, size: Size) -> float:
    """Return the seconds of a step of the bare loop."""
    source = build_dataset(scene, network, store, None)
    found = batches(source, network.card.spec, size.batch, 0, range(size.in_memory))
    ready = [batch.to(torch.device("cpu")) for batch in islice(found, size.in_memory)]
    old, model = network.model.eval(), copy.deepcopy(network.model).train()
    objective = DistillationLoss(old, 1.0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4)
    start = time.monotonic()
    for step in range(size.steps):
        terms = objective(model, ready[step % size.in_memory])
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (time.monotonic() - start) / size.steps


def _whole(
    scene: Image, network: Checkpoint, store: LabelStore, size: Size
) -> tuple[float, float]:
    """Return the seconds of a step: alone, and with validations and checkpoints."""
    settings = FineTuneSettings(
        steps=size.steps, batch_size=size.batch, device="cpu", distillation_weight=1.0
    )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "new.safetensors"
        budget = MemoryBudget.default("cpu")
        begun = last = stepping = 0.0
        done = first = 0
        for event in fine_tune(scene, network, store, output, settings, budget):
            before, last = last, time.monotonic()
            if isinstance(event, Progress) and event.done > done:
                if begun:
                    stepping += last - before
                else:
                    begun, first = last, event.done
                done = event.done
        count = size.steps - first
        return stepping / count, (last - begun) / count
