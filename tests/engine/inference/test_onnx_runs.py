"""Runs of ONNX networks, compared with onnxruntime pixel by pixel."""

from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest
import torch
from torch import nn

from helpers.corrections import correct
from helpers.fake_gpu import fake_gpu
from helpers.forked import forked_process
from helpers.onnx_networks import DEEPNESS, export, small_network
from helpers.segmentation import BUDGET, GB, SETTINGS, labels_of, noise_image, segmenter
from napari_uhrseg.engine.events import BlockDone, Finished, Planned
from napari_uhrseg.engine.finetuning.finetune import summarize_corrections
from napari_uhrseg.engine.inference.preview import segment_region
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Recipe, Roi

CHOSEN = replace(SETTINGS, scale=1, add_classes=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return export(
        small_network(), tmp_path_factory.mktemp("onnx") / "net.onnx", DEEPNESS
    )


@pytest.fixture(scope="module")
def checkpoint(path) -> Checkpoint:
    return load_checkpoint(path)


class Torch(Segmenter):
    """The same network in torch, with the input of the ONNX network."""

    def __init__(self, spec) -> None:
        super().__init__()
        self.spec, self.recipe = spec, Recipe((), 1)
        self.net = small_network()

    def forward(self, batch: Batch) -> Outputs:
        return {"logits": self.net(batch.views["local"])}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        raise NotImplementedError


def by_hand(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the labels of windows of 64 pixels, computed with onnxruntime alone."""
    session = onnxruntime.InferenceSession(path)
    mean, std = (DEEPNESS[f"standardization_{k}"] for k in ("mean", "std"))
    labels = np.zeros(pixels.shape[:2], np.uint8)
    for y in range(0, labels.shape[0], 64):
        for x in range(0, labels.shape[1], 64):
            window = (pixels[y : y + 64, x : x + 64] / 255 - mean) / std
            values = window.transpose(2, 0, 1)[None].astype(np.float32)
            found = session.run(None, {"image": values})[0]
            labels[y : y + 64, x : x + 64] = found[0].argmax(0) + 1
    return labels


def test_labels_equal_onnxruntime_by_hand(tmp_path, path, checkpoint):
    image = noise_image(256, 320, 0)
    run = segmenter(tmp_path, replace(CHOSEN, overlap=0))
    store, events = run(image, checkpoint)
    with store:
        found = labels_of(store)
    pixels = image.read(Roi(0, 0, 256, 320)).data
    expected = by_hand(path, pixels)
    assert len(np.unique(expected)) == 3
    names = {c.name: c.id for c in store.legend}
    ids = np.array([0, *(names[c.name] for c in checkpoint.card.legend)])
    np.testing.assert_array_equal(found, ids[expected])
    plan = events[0].plan
    assert (plan.run.precision, plan.device.id, plan.run.model) == (
        "fp32",
        "cpu",
        "onnx",
    )


def test_overlapping_windows_are_merged_as_those_of_other_networks(checkpoint):
    image = noise_image(300, 200, 1)
    twin = replace(checkpoint, model=Torch(checkpoint.card.spec).eval(), hash="twin")
    whole = Roi(0, 0, 300, 200)
    found, expected = (
        segment_region(image, c, whole, CHOSEN, BUDGET) for c in (checkpoint, twin)
    )
    assert (found == expected).mean() > 0.9999


def test_stopped_run_resumes_with_the_same_labels(tmp_path, checkpoint):
    image = noise_image(3100, 90, 2)
    store, _ = segmenter(tmp_path, CHOSEN)(image, checkpoint)
    with store:
        expected = labels_of(store)
    with LabelStore.create(tmp_path / "b.zarr", image, checkpoint.card.legend) as store:
        for event in segment(image, checkpoint, store, CHOSEN, BUDGET):
            if isinstance(event, BlockDone):
                break
        assert store.pending(store.runs[-1]).any()
        again = list(segment(image, checkpoint, store, CHOSEN, BUDGET))
        assert isinstance(again[-1], Finished)
        np.testing.assert_array_equal(labels_of(store) > 0, expected > 0)
        assert len(store.runs) == 1


def test_stop_ends_run_between_windows(tmp_path, checkpoint):
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 5

    store, events = segmenter(tmp_path, CHOSEN)(
        noise_image(600, 600, 3), checkpoint, stop=stop
    )
    with store:
        assert not any(isinstance(e, Finished) for e in events)
    assert len(calls) < 20


def test_network_runs_on_the_cpu_if_a_gpu_is_chosen(checkpoint, monkeypatch):
    fake_gpu(monkeypatch)
    budget = MemoryBudget("mps", 64 * GB, GB)
    settings = replace(CHOSEN, device="auto", precision="auto")
    plan = make_plan(noise_image(128, 128, 4), checkpoint, settings, budget)
    assert (plan.device.id, plan.run.precision) == ("cpu", "fp32")
    assert plan.budget.device_bytes <= MemoryBudget.default("cpu").device_bytes
    assert "net.onnx runs on the CPU" in plan.warnings[0]


def test_fine_tuning_is_refused(tmp_path, checkpoint):
    image = noise_image(256, 256, 5)
    store, _ = segmenter(tmp_path, CHOSEN)(image, checkpoint)
    with store:
        correct(store, Roi(10, 10, 50, 50), 1)
        with pytest.raises(TrainingError, match="which cannot be trained"):
            summarize_corrections(image, checkpoint, store)


class Wide(nn.Module):
    """A network whose activations are much larger than its weights."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 64, 3, padding=1)]
        for _ in range(3):
            layers += [nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, groups=64)]
        self.net = nn.Sequential(*layers, nn.Conv2d(64, 3, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)


def measure(sender: Connection, path: str) -> None:
    """Send the planned bytes, and the bytes that the run adds at most."""
    checkpoint = load_checkpoint(Path(path))
    image = noise_image(1200, 1200, 6)
    memory = psutil.Process().memory_info
    with LabelStore.create(None, image, checkpoint.card.legend) as store:
        before, most, planned = memory().rss, 0, 0
        budget = MemoryBudget("cpu", 700 << 20, GB)
        settings = replace(CHOSEN, batch_size=None, threads=2)
        for event in segment(image, checkpoint, store, settings, budget):
            if isinstance(event, Planned):
                planned = event.plan.estimate.device_bytes
            most = max(most, memory().rss - before)
    sender.send((planned, most))


@pytest.mark.slow
def test_run_keeps_the_memory_budget(tmp_path):
    metadata = DEEPNESS | {"tile_size": 512}
    path = export(Wide().eval(), tmp_path / "wide.onnx", metadata)
    with forked_process(measure, str(path)) as (_, answer):
        planned, most = answer.recv()
    assert most <= planned <= 700 << 20
