"""Training and fine-tuning that the campaign disturbs, and checks of their files."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from campaign.operation import Operation, Say, content, digest
from helpers import corrections as squared
from helpers.label_stores import RUN, chunk_block
from helpers.training import PLAIN, make_source
from napari_uhrseg.engine.events import Saved
from napari_uhrseg.engine.finetuning.finetune import fine_tune
from napari_uhrseg.engine.training.train import train
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import FineTuneSettings, Limits, Roi, Stroke

NET = Path("out", "net.safetensors")
SIDES = 384, 448  # of the corrected image


def training(work: Callable[[Path, Path], Iterator], prepare: Callable) -> Operation:
    """Return a training that writes a checkpoint, and acknowledges each saved one."""

    def run(folder: Path, say: Say, start: int) -> None:
        path = folder / NET
        if path.exists() and not state_of(folder).exists():
            return  # it had ended
        for event in work(folder, path):
            if isinstance(event, Saved):
                say(event.step)

    def result(folder: Path) -> str:
        tensors = load_file(folder / NET)
        return digest(*((k, v.numpy()) for k, v in sorted(tensors.items())))

    return Operation(NET.name, prepare, run, check_training, result)


def state_of(folder: Path) -> Path:
    return folder / f"{NET}.state"


def check_training(folder: Path, reference: Path, said: int) -> int:
    """Compare the inputs, and load the checkpoint and the state.

    Labels, strokes and the original checkpoint are among the inputs.
    """
    inputs = folder / "in", reference / "in"
    assert content(inputs[0]) == content(inputs[1]), "the inputs changed"
    assert (folder / NET).exists() or not said, f"no checkpoint of step {said}"
    if (folder / NET).exists():
        found = load_checkpoint(folder / NET).card.metrics["step"]
        assert found >= said, f"checkpoint of step {found:.0f} after step {said}"
    if state_of(folder).exists():
        found = torch.load(state_of(folder), weights_only=True)["step"]
        assert found >= said, f"state of step {found} after step {said}"
    return 0


def train_small(folder: Path, path: Path) -> Iterator:
    settings = replace(PLAIN, limits=Limits(state_interval_s=0.0))
    return train(make_source(), path, settings)


def prepare_corrected(folder: Path) -> None:
    truth, image = squared.squares(SIDES)
    squared.checkpoint(folder / "in")
    with LabelStore.create(folder / "in" / "labels.zarr", image, squared.LEGEND) as s:
        run = s.run_ledger.start_run(replace(RUN, image_fingerprint=image.fingerprint))
        s.write(chunk_block(0, 0, 0, truth.shape), run.id, "done")
        squared.stroke_everywhere(s, truth)
        with Corrections.open(s) as painting:
            where = Roi(340, 380, 30, 60)
            painting.apply(Stroke(where, truth[where.slices] > 0, truth[where.slices]))


def fine_tune_small(folder: Path, path: Path) -> Iterator:
    settings = FineTuneSettings(
        steps=3, batch_size=2, learning_rate=0.002, device="cpu"
    )
    net = load_checkpoint(folder / "in" / "plain0.safetensors")
    with LabelStore.open(folder / "in" / "labels.zarr") as store:
        image = squared.squares(SIDES)[1]
        yield from fine_tune(image, net, store, path, settings, resume=True)
