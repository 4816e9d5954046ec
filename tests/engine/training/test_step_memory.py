"""Memory of a training step: same gradients within a budget."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers.corrections import LEGEND, METHODS, checkpoint, squares, stroke_everywhere
from napari_uhrseg.engine.data.folder_dataset import FolderDataset
from napari_uhrseg.engine.events import MemoryPlanned
from napari_uhrseg.engine.finetuning.distillation import DistillationLoss
from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.network.activation_memory import activation_bytes
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.planning.memory_estimate import CHUNK_CACHE_BYTES
from napari_uhrseg.engine.training.gradient_checkpointing import checkpoint_blocks
from napari_uhrseg.engine.training.step_memory import (
    FULL_BATCH,
    KERNEL_OVERHEAD,
    SampleMemory,
    StepMemoryPlan,
    fixed_training_memory,
    plan_step_memory,
    sample_memory,
)
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import HELD_OUT, IGNORED

FEW = FineTuneSettings(steps=2, learning_rate=0.002, device="cpu", precision="fp32")


def network(method: str) -> Segmenter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(method, METHODS[method], LEGEND).train()


shared_network = cache(network)  # for tests that do not change it


def made_up(model: Segmenter, samples: int) -> Batch:
    """Return noise of the sizes that the model needs."""
    spec = model.spec
    side = spec.window
    views, boxes = {}, {}
    numbers = torch.Generator().manual_seed(1)
    for name, view in spec.views.items():
        size = side if view.extent == "frame" else view.side
        views[name] = torch.randn(samples, 3, size, size, generator=numbers)
        inner = torch.tensor([0.0, 0.0, size / 2, size / 2])
        boxes[name] = inner.expand(samples, 4)
    target = torch.randint(0, 2, (samples, side, side), generator=numbers)
    return Batch(views, boxes, target)


def gradients(
    model: Segmenter, batch: Batch, fit: StepMemoryPlan
) -> dict[str, torch.Tensor]:
    """Return gradients and running statistics after a step."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        with fit.applied_to(model):
            model.loss(model(batch), batch)["loss"].backward()
    found = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return found | dict(model.named_buffers())


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize(
    "fit", [StepMemoryPlan(2, True), StepMemoryPlan(2, True, True)], ids=str
)
@pytest.mark.parametrize("method", METHODS)
def test_gradient_checkpointing_changes_no_gradient(method, fit):
    whole, twice = network(method), network(method)
    batch = made_up(whole, 2)
    expected, found = (
        gradients(whole, batch, StepMemoryPlan(2)),
        gradients(twice, batch, fit),
    )
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)
    assert all("forward" not in vars(m) for m in twice.modules())


def test_checkpoint_blocks_restores_the_network_after_an_error():
    model = network("plain")
    with pytest.raises(ZeroDivisionError), checkpoint_blocks(model):
        raise ZeroDivisionError
    assert all("forward" not in vars(m) for m in model.modules())


def test_checkpoint_blocks_handles_shared_blocks_and_own_forward():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.forward = self.plainly

        def plainly(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    shared = Block()
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared))
    value = torch.ones(1, 2, requires_grad=True)
    with checkpoint_blocks(model):
        model(value).sum().backward()
    assert shared.forward == shared.plainly


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize("method", ["plain", "scpseg", "sgnet"])
def test_gradient_checkpointing_and_offloading_need_less_memory(method):
    model = shared_network(method)
    whole, twice, elsewhere = (
        sample_memory(model, fit)
        for fit in (
            StepMemoryPlan(2),
            StepMemoryPlan(2, True),
            StepMemoryPlan(2, True, True),
        )
    )
    assert elsewhere.device < twice.device < whole.device
    assert whole.host == twice.host == 0 < elsewhere.host


@pytest.mark.slow
@given(
    wanted=st.integers(2, 40),
    sizes=st.lists(st.integers(1, 100), min_size=3, max_size=3),
    room=st.integers(0, 4000),
    main=st.integers(0, 40),
    device=st.sampled_from(["cpu", "cuda:0"]),
)
def test_plan_step_memory_keeps_to_the_budget(wanted, sizes, room, main, device):
    """Micro-batches of two or more samples fit the budget, whatever a sample takes."""
    model = shared_network("plain")
    held = fixed_training_memory(model, wanted, device, distills=False)
    held += CHUNK_CACHE_BYTES[1] if device == "cpu" else 0
    here = dict(zip([(False, False), (True, False), (True, True)],
                     sorted(sizes, reverse=True), strict=True))  # fmt: skip
    budget = MemoryBudget(device, held + room, 7 * main)

    def estimate(_: Segmenter, plan: StepMemoryPlan, *__: object) -> SampleMemory:
        return SampleMemory(here[plan.recompute, plan.offload], 7 * plan.offload)

    try:
        step, fit = plan_step_memory(
            model,
            replace(model.recipe, batch_size=wanted),
            budget,
            estimate=estimate,
        )
    except DeviceError:
        assert room < 2 * KERNEL_OVERHEAD * here[True, device != "cpu" and main > 1]
        return
    cost = here[fit.recompute, fit.offload]
    assert fit.micro_batch_size * KERNEL_OVERHEAD * cost <= room
    assert fit.micro_batch_size >= 2
    assert wanted - step in ((0, 1) if fit.micro_batch_size == 2 else (0,))
    parts = fit.micro_batches(Batch({"a": torch.zeros(step)}, target=torch.zeros(step)))
    assert sum(len(part) for part, _ in parts) == step
    assert {len(part) for part, _ in parts} <= {
        fit.micro_batch_size,
        fit.micro_batch_size - 1,
    } - {1}
    assert not (fit.offload and (device == "cpu" or fit.micro_batch_size > main))
    if fit.micro_batch_size < step:  # only where nothing else would do
        offload = device != "cpu" and main >= wanted
        assert wanted * KERNEL_OVERHEAD * here[True, offload] > room


def test_micro_batches_separate_neighbouring_samples():
    """Neighbouring windows of a batch are of one kind."""
    batch = Batch({"local": torch.arange(5.0)}, target=torch.full((5, 2, 2), 255))
    parts = [
        part.views["local"].tolist()
        for part, _ in StepMemoryPlan(2).micro_batches(batch)
    ]
    assert parts == [[0, 3], [1, 4], [2]]
    assert StepMemoryPlan(5).micro_batches(batch) == [(batch, FULL_BATCH)]


@pytest.mark.slow
def test_micro_batches_have_the_gradient_of_the_batch():
    """Labelled pixels are distributed unevenly; batch normalisation is left out."""
    model = network("plain").eval()  # normalisation that knows no batch
    batch = made_up(model, 4)
    target = torch.full_like(batch.target, IGNORED)
    target[0, :8, :8] = batch.target[0, :8, :8]
    target[1, 0, 0] = 1
    target[3] = HELD_OUT
    batch = replace(batch, target=target)
    objective = DistillationLoss(network("plain").eval(), 0.0)
    found = []
    for fit in (StepMemoryPlan(4), StepMemoryPlan(2)):
        model.zero_grad()
        for part, share in fit.micro_batches(batch):
            objective(model, part, share)["loss"].backward()
        found.append({k: p.grad.clone() for k, p in model.named_parameters()})
    for name, value in found[0].items():
        difference = (found[1][name] - value).norm()
        assert difference <= 1e-4 * value.norm() + 1e-7, name


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_sample_memory_is_that_of_the_largest_stage():
    model = shared_network("glnet")
    each = [
        sample_memory(model, StepMemoryPlan(2), (s,)).device
        for s in model.recipe.stages
    ]
    assert len(set(each)) > 1
    assert sample_memory(model, StepMemoryPlan(2), model.recipe.stages).device == max(
        each
    )


@pytest.fixture
def corrected(tmp_path):
    truth, image = squares((320, 320))
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as store:
        stroke_everywhere(store, truth)
        yield image, store


def tuned(net, corrected, output, budget, how=FEW):
    image, store = corrected
    events = list(fine_tune(image, net, store, output, how, budget))
    (fitted,) = [e for e in events if isinstance(e, MemoryPlanned)]
    return load_checkpoint(output), fitted


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_fine_tune_with_less_memory_gives_the_same_weights(corrected, tmp_path):
    net = checkpoint(tmp_path)
    held = (
        fixed_training_memory(net.model, 6, "cpu", distills=True) + CHUNK_CACHE_BYTES[1]
    )
    answer = activation_bytes(net.model)
    whole, twice = (
        sample_memory(net.model, StepMemoryPlan(2, t), (), True).device + answer
        for t in (False, True)
    )
    assert twice < 0.9 * whole

    def budget(samples: float, each: int) -> MemoryBudget:
        return MemoryBudget(
            "cpu", int(held + KERNEL_OVERHEAD * samples * each) + 1, 1 << 30
        )

    made = [
        tuned(net, corrected, tmp_path / f"{n}.safetensors", limit)
        for n, limit in enumerate(
            [budget(100, whole), budget(6, twice), budget(2, twice)]
        )
    ]
    assert [fitted.limited for _, fitted in made] == [False, True, True]
    assert made[0][1].description == "6 samples a step"
    assert made[1][1].description == "6 samples a step, layers computed twice"
    assert (
        made[2][1].description == "6 samples a step, 2 at a time, layers computed twice"
    )
    first, second, third = (m.model.state_dict() for m, _ in made)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], third[k]) for k in first)
    assert "6 windows" in made[2][0].card.command  # the step is what it was


@pytest.mark.slow
def test_fine_tune_with_a_chosen_batch_size_keeps_to_the_budget(corrected, tmp_path):
    net = checkpoint(tmp_path)
    held = (
        fixed_training_memory(net.model, 16, "cpu", distills=True)
        + CHUNK_CACHE_BYTES[1]
    )
    each = sample_memory(net.model, StepMemoryPlan(2, True), (), True).device
    each += activation_bytes(net.model)
    limit = MemoryBudget("cpu", int(held + KERNEL_OVERHEAD * 4.5 * each), 1 << 30)
    chosen = replace(FEW, batch_size=16, steps=1)
    _, fitted = tuned(net, corrected, tmp_path / "c.safetensors", limit, chosen)
    assert fitted.description == "16 samples a step, 4 at a time, layers computed twice"
    assert fitted.limited


@pytest.mark.slow
def test_fine_tune_refuses_a_budget_too_small(corrected, tmp_path):
    net, output = checkpoint(tmp_path), tmp_path / "c.safetensors"
    with pytest.raises(DeviceError, match="budget is"):
        tuned(net, corrected, output, MemoryBudget("cpu", 1 << 20, 1 << 30))
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["scpseg", "isdnet"])
def test_fine_tune_trains_a_new_network_with_the_papers_losses(method, tmp_path):
    """Their losses turn autocast off, which does not exist where memory is traced."""
    truth, image = squares((320, 320))
    new = new_checkpoint(method, METHODS[method], LEGEND, image, pretrained=False)
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as store:
        stroke_everywhere(store, truth)
        output = tmp_path / "first.safetensors"
        for _ in fine_tune(image, new, store, output, replace(FEW, batch_size=2)):
            pass
    assert load_checkpoint(output).card.parent is None


@pytest.mark.slow
def test_plan_step_memory_counts_decoded_scenes_and_shrinks_the_cache_first(tmp_path):
    model = shared_network("plain")
    each = KERNEL_OVERHEAD * sample_memory(model, StepMemoryPlan(4)).device
    held = fixed_training_memory(model, 4, "cpu", distills=False) + 4 * each

    def fit(room: float) -> StepMemoryPlan:
        budget = MemoryBudget("cpu", int(held + room), 1 << 30)
        return plan_step_memory(model, replace(model.recipe, batch_size=4), budget)[1]

    assert fit(CHUNK_CACHE_BYTES[0] + 1) == StepMemoryPlan(
        4, cache=CHUNK_CACHE_BYTES[0]
    )
    assert (
        fit(CHUNK_CACHE_BYTES[0] - 1)
        == fit(CHUNK_CACHE_BYTES[1] + 1)
        == StepMemoryPlan(4, cache=CHUNK_CACHE_BYTES[1])
    )
    assert fit(CHUNK_CACHE_BYTES[1] - 1).recompute

    pixels = np.zeros((64, 96, 3), np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", pixels, photometric="rgb")
    mask = pixels[..., 0].copy()
    mask[:32] = 1
    tifffile.imwrite(tmp_path / "masks" / "a.tif", mask)
    source = FolderDataset(tmp_path / "images", tmp_path / "masks", held_out=0)
    assert source.cached_bytes == 64 * 96 * (3 + 1 + 1)  # bands, what is valid, classes
