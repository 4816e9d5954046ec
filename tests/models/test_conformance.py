"""Requirements of the engine that every method of the registry meets."""

import pytest
import torch
from torch import nn

from napari_uhrseg.engine.network.device import devices, inference_mode
from napari_uhrseg.engine.network.optimize import optimized, optimized_bytes
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.registry import REGISTRY, build, model_class
from napari_uhrseg.types import Card, LabelClass, Legend

THERE = list(REGISTRY)


def legend(classes: int) -> Legend:
    return Legend(tuple(LabelClass(i + 1, f"c{i}", "#336699") for i in range(classes)))


def make(name: str, classes: int = 3, **arguments: object) -> Segmenter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(
            name, {**REGISTRY[name].small_arguments, **arguments}, legend(classes)
        )


def make_batch(
    model: Segmenter, size: int = 2, classes: int = 3, frame: tuple[int, int] = (0, 0)
) -> Batch:
    """What the spec asks for; a view of a frame is of ``frame`` or of the window."""
    generator = torch.Generator().manual_seed(1)
    spec = model.spec
    whole = (spec.window, spec.window) if frame == (0, 0) else frame
    views, boxes = {}, {}
    for name, view in spec.views.items():
        sides = whole if view.extent == "frame" else (view.side, view.side)
        views[name] = torch.randn(size, spec.channels, *sides, generator=generator)
        if view.extent != "frame":
            margin = (view.extent - spec.window) / 2 * view.side / view.extent
            end = view.side - margin
            boxes[name] = torch.tensor([[margin, margin, end, end]]).repeat(size, 1)
    target = torch.randint(0, classes, (size, *whole), generator=generator)
    return Batch(views, boxes, target)


@pytest.fixture(params=THERE)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (2, 1), (5, 4)])
def test_any_number_of_classes_and_bands(name, classes, channels):
    model = make(name, classes, channels=channels).eval()
    spec = model.spec
    assert (spec.channels, len(spec.mean), len(spec.std)) == (channels,) * 3
    with torch.inference_mode():
        logits = model(make_batch(model))["logits"]
    assert logits.shape == (2, classes, spec.window, spec.window)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", [n for n in THERE if make(n).spec.frame is not None])
def test_a_frame_need_not_be_square(name):
    model = make(name)
    spec = model.spec
    least = -(-spec.min_side // spec.divisor) * spec.divisor
    for sides in ((least, least + spec.divisor), (least + 5 * spec.divisor, least)):
        batch = make_batch(model, frame=sides)
        with torch.inference_mode():
            logits = model.eval()(batch)["logits"]
        assert logits.shape == (2, 3, *sides)
        terms = model.train().loss(model(batch), batch)
        assert terms["loss"].isfinite()


@pytest.mark.parametrize("name", ["plain", "scpseg", "sgnet"])
def test_windows_overlap_and_are_blended_by_default(name):
    spec = make(name).spec
    assert (spec.window_overlap, spec.merge) == (spec.window // 8, "taper")


def test_a_sample_does_not_depend_on_its_batch(name):
    model = make(name).eval()
    batch = make_batch(model, 3)
    with torch.inference_mode():
        together = model(batch)["logits"]
        for i in range(3):
            one = Batch(
                {k: v[i : i + 1] for k, v in batch.views.items()},
                {k: v[i : i + 1] for k, v in batch.boxes.items()},
            )
            torch.testing.assert_close(
                model(one)["logits"][0], together[i], rtol=1e-4, atol=1e-4
            )


def test_the_same_input_gives_the_same_bits(name):
    model = make(name).eval()
    batch = make_batch(model)
    with torch.inference_mode():
        assert torch.equal(model(batch)["logits"], model(batch)["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("device", [d.id for d in devices()])
def test_every_device_here_gives_what_the_cpu_gives(name, device):
    model = make(name).eval()
    batch = make_batch(model)
    with torch.inference_mode():
        expected = model(batch)["logits"]
        model.to(device)
        found = model(batch.to(torch.device(device)))["logits"].cpu()
    spread = float(expected.std())
    assert float((found - expected).abs().quantile(0.99)) < 0.01 * spread
    model.train()
    loss = model.loss(model(batch.to(torch.device(device))), batch.to(
        torch.device(device)))["loss"]  # fmt: skip
    loss.backward()
    assert loss.isfinite()


def test_the_declared_views_are_what_forward_looks_at(name):
    model = make(name).eval()
    batch = make_batch(model)
    seen = {k: v.clone().requires_grad_() for k, v in batch.views.items()}
    model(Batch(seen, batch.boxes))["logits"].sum().backward()
    assert all(v.grad is not None and v.grad.abs().sum() > 0 for v in seen.values())
    for missing in seen:
        rest = {k: v for k, v in batch.views.items() if k != missing}
        with pytest.raises(KeyError, match=missing):
            model(Batch(rest, batch.boxes))


@pytest.mark.slow
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    model = make(name).eval().to(memory_format=torch.channels_last)
    card = Card(name, REGISTRY[name].small_arguments, legend(3), model.spec)
    path = save_checkpoint(tmp_path / "c.safetensors", model, card, half=False)
    batch = make_batch(model)
    with torch.inference_mode():
        expected = model(batch)["logits"]
        assert torch.equal(load_checkpoint(path).model(batch)["logits"], expected)


@pytest.mark.slow
def test_a_small_step_along_the_gradient_lowers_the_loss(name):
    """The gradient is that of the loss: it predicts the decrease of a small step.

    Without dropout and with fixed statistics, half of the predicted decrease is certain
    for a step that is small enough.
    """
    model = make(name).eval()
    batch = make_batch(model)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss() -> torch.Tensor:
        return model.loss(model(batch), batch)["loss"]

    before = loss()
    gradients = torch.autograd.grad(before, parameters, allow_unused=True)
    known = [
        (p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None
    ]
    slope = float(sum((g**2).sum() for _, g in known))
    assert slope > 0
    start = [p.detach().clone() for p, _ in known]
    decreases = []
    for step in (1e-1, 1e-2, 1e-3):
        with torch.no_grad():
            for (p, g), first in zip(known, start, strict=True):
                p.copy_(first - step * g)
            decreases.append(float((before - loss()).detach()) / (step * slope))
    assert max(decreases) > 0.5


@pytest.mark.slow
def test_every_parameter_learns(name):
    model = make(name).train()
    batch = make_batch(model)
    learned = set()
    for stage in model.recipe.stages:
        model.begin_stage(stage, first=True)
        model.zero_grad()
        model.loss(model(batch), batch)["loss"].backward()
        learned |= {
            n
            for n, p in model.named_parameters()
            if p.grad is not None
            and (not stage.trainable or n.startswith(stage.trainable))
        }
    own = {n for n, p in model.named_parameters() if p.requires_grad}
    assert own - learned == set()


def test_ignored_pixels_teach_nothing(name):
    model = make(name).eval()  # no dropout, running statistics
    batch = make_batch(model)
    assert batch.target is not None
    batch.target[:] = 255
    terms = model.loss(model(batch), batch)
    assert float(terms["loss"].detach()) == 0


def test_every_method_says_what_it_is():
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert entry.title
        assert entry.sentence.endswith(".")
        assert entry.published.endswith(".")
        assert issubclass(model_class(name), Segmenter)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "Nonsense"}, "no architecture"),
        ({"encoder": "nonsense"}, "cannot be built"),
        ({"encoder": "tu-nonsense"}, "cannot be built"),
        ({"options": {"nonsense": 1}}, "cannot be built"),
        ({"window": 61}, "multiple of"),
        ({"nonsense": 1}, "cannot be built"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(CheckpointError, match=message) as error:
        make("plain", **arguments)
    assert error.value.hint


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_efficientnet"])
def test_weights_that_cannot_be_fetched(encoder, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="ImageNet weights") as error:
        make("plain", encoder=encoder, pretrained=True)
    assert "add --no-pretrained" in error.value.hint


def trained(name: str) -> Segmenter:
    """With normalisation as after a training: no means of 0, no factors of 1."""
    model = make(name).eval()
    for part in model.training_only_modules:  # in no checkpoint
        owner, _, last = part.rpartition(".")
        setattr(model.get_submodule(owner), last, None)
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, least in (
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
                (module.weight.data, 0.5),
                (module.bias.data, -0.5),
            ):
                values.copy_(least + torch.rand(values.shape, generator=generator))
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def answers(model: Segmenter, precision: str) -> torch.Tensor:
    batch = make_batch(model).to(torch.device("cpu"))
    with inference_mode(torch.device("cpu"), precision):
        return model(batch)["logits"].float()


@pytest.mark.slow
def test_made_ready_to_run_it_answers_as_before_without_its_batch_norms(name):
    model = trained(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expected = answers(model, "fp32")
    ready = optimized(model, "fp32")
    assert norms(model) > 0
    assert norms(ready) == 0
    assert (answers(ready, "fp32") - expected).abs().max() < 1e-4 * expected.std()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


@pytest.mark.slow
def test_in_half_precision_it_is_no_further_from_the_truth_and_takes_half(name):
    model = trained(name)
    truth = answers(model, "fp32")
    own = (answers(model, "bf16") - truth).abs().mean()
    ready = optimized(model, "bf16")
    assert (answers(ready, "bf16") - truth).abs().mean() < 1.5 * own
    held = sum(t.nbytes for t in [*ready.parameters(), *ready.buffers()])
    assert (
        held <= optimized_bytes(model, "bf16") < 0.75 * optimized_bytes(model, "fp32")
    )
