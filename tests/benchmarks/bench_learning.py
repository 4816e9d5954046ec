"""Steps per second of a fine-tuning beside a bare loop over tensors in memory.

Some strokes on the sample scene, and sample checkpoints. The bare loop has
the same batches in memory, the same objective (with the old network's answers),
optimiser and clipping; ``fine_tune`` also draws and reads its windows, and in the
second figure validates and writes the checkpoint five times. By turns, so that a busy
machine hits both.
"""

import copy
import statistics
import tempfile
import time
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
from napari_uhrseg.engine.finetuning.distillation import Keeping
from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.finetuning.training_summary import gather
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.samples import data_dir

STEPS = 100  # of a quick fine-tuning, with its five validations
ROUNDS = 2
BATCH = 6
HELD = 8  # batches in memory


def run(image: Path | None, checkpoint: Path | None) -> Table:
    del image
    table = Table("network", "bare loop", "steps alone", "ratio")
    table.add_column("with validations")
    table.add_column("ratio")
    table.title = f"Fine-tuning, {STEPS} steps of {BATCH} windows, {ROUNDS} rounds"
    scene = open_image(data_dir() / "scene.tif")
    with rasterio.open(data_dir() / "scene_labels.tif") as file:
        truth = file.read(1)
    if checkpoint:
        networks = [load_checkpoint(checkpoint)]
    else:
        names = ("plain.safetensors", "scpseg.safetensors")
        networks = [load_checkpoint(sample(name)) for name in names]
    for network in networks:
        legend = network.card.legend
        with LabelStore.create(None, scene, legend) as store:
            paint(store, truth, truth * 0, truth > 0, strokes=20, radius=24)
            rounds = [
                (_bare(scene, network, store), *_whole(scene, network, store))
                for _ in range(ROUNDS + 1)
            ][1:]  # the first one warms both up
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


def _bare(scene: Image, network: Checkpoint, store: LabelStore) -> float:
    """Seconds of a step."""
    source = gather(scene, network, store, None)
    found = batches(source, network.card.spec, BATCH, 0, range(HELD))
    held = [batch.to(torch.device("cpu")) for batch in islice(found, HELD)]
    old, model = network.model.eval(), copy.deepcopy(network.model).train()
    objective = Keeping(old, 1.0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4)
    start = time.monotonic()
    for step in range(STEPS):
        terms = objective(model, held[step % HELD])
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (time.monotonic() - start) / STEPS


def _whole(scene: Image, network: Checkpoint, store: LabelStore) -> tuple[float, float]:
    """Seconds of a step alone, and with its share of validations and checkpoints."""
    settings = FineTuneSettings(
        steps=STEPS, batch_size=BATCH, device="cpu", keep_old=1.0
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
        count = STEPS - first
        return stepping / count, (last - begun) / count
