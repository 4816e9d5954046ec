"""Test the weights that a new network starts from, without a network connection."""

import socket

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from helpers.training import GLNET, LEGEND, PLAIN, make_source
from napari_uhrseg.engine.events import TrainingPlanned
from napari_uhrseg.engine.training.initial_weights import (
    RANDOM,
    EncoderStart,
    initial_network,
)
from napari_uhrseg.engine.training.train import plan_training
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.registry import DEFAULT_ENCODER, REGISTRY, default_arguments

SHIPPED = "tf_efficientnet_lite0 (part of napari-uhrseg; Apache-2.0)"
WITHOUT = EncoderStart(pretrained=False)
FALLS_BACK = EncoderStart(falls_back=True)


@pytest.fixture(autouse=True)
def requests(monkeypatch, tmp_path):
    """Return the requests of a machine whose hub is offline and whose cache is empty.

    Every look-up of a host fails.
    """
    found: list[object] = []

    def refuse(*args, **_):
        found.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return found


def stem(network) -> torch.Tensor:
    return network.model.state_dict()["net.encoder.model.conv_stem.weight"]


@pytest.mark.slow
def test_default_encoder_starts_from_shipped_weights_without_request(requests):
    arguments = {**PLAIN.arguments, **default_arguments("plain")}
    found = initial_network("plain", arguments, LEGEND, FALLS_BACK)
    assert found.encoder_weights == f"ImageNet weights of {SHIPPED}"
    assert found.warnings == ()
    assert not requests
    random = initial_network("plain", arguments, LEGEND, WITHOUT)
    assert random.encoder_weights == RANDOM
    assert not torch.equal(stem(found), stem(random))
    decoder = "net.segmentation_head.0.weight"
    states = (found.model.state_dict(), random.model.state_dict())
    assert torch.equal(states[0][decoder], states[1][decoder])


@pytest.mark.slow
def test_default_encoder_replaces_one_whose_weights_are_not_available():
    found = initial_network("plain", PLAIN.arguments, LEGEND, FALLS_BACK)
    assert found.arguments == {**PLAIN.arguments, "encoder": DEFAULT_ENCODER}
    assert SHIPPED in found.encoder_weights
    (warning,) = found.warnings
    for text in ("test_efficientnet", DEFAULT_ENCODER, "--no-pretrained"):
        assert text in warning


@pytest.mark.parametrize(
    ("method", "start"), [("plain", EncoderStart()), ("ehsnet", FALLS_BACK)]
)
def test_other_encoders_start_from_random_weights_with_warning(method, start):
    arguments = dict(REGISTRY[method].small_arguments)
    found = initial_network(method, arguments, LEGEND, start)
    assert found.arguments == arguments
    assert found.encoder_weights == RANDOM
    assert found.warnings[0].endswith("The encoder starts from random weights")


def test_file_of_encoder_weights_needs_no_request(requests, tmp_path):
    first = initial_network("plain", PLAIN.arguments, LEGEND, WITHOUT, seed=1)
    save_file(first.model.net.encoder.state_dict(), tmp_path / "own.safetensors")
    start = EncoderStart(files=(tmp_path / "own.safetensors",), falls_back=True)
    found = initial_network("plain", PLAIN.arguments, LEGEND, start)
    assert found.encoder_weights.startswith("weights of own.safetensors (")
    assert torch.equal(stem(found), stem(first))
    assert not requests


def test_file_of_the_light_encoder_is_added_to_the_shipped_weights(tmp_path):
    arguments = {**REGISTRY["isdnet"].small_arguments, **default_arguments("isdnet")}
    found = initial_network("isdnet", arguments, LEGEND, FALLS_BACK)
    assert found.encoder_weights.endswith("light encoder from random weights")
    path = tmp_path / "stdc.safetensors"
    save_file(found.model.refine_head.stdc_net.state_dict(), path)
    start = EncoderStart(files=(path,), falls_back=True)
    both = initial_network("isdnet", arguments, LEGEND, start, seed=1)
    assert SHIPPED in both.encoder_weights
    assert "stdc.safetensors" in both.encoder_weights
    assert "random" not in both.encoder_weights


def test_missing_file_of_encoder_weights_is_an_error(tmp_path):
    start = EncoderStart(files=(tmp_path / "no.pth",))
    with pytest.raises(CheckpointError, match="does not exist"):
        initial_network("plain", PLAIN.arguments, LEGEND, start)


def test_both_branches_of_glnet_start_from_the_same_weights():
    arguments = {**GLNET.arguments, **default_arguments("glnet")}
    state = initial_network("glnet", arguments, LEGEND, FALLS_BACK).model.state_dict()
    last = "blocks.6.0.conv_pwl.weight"
    assert torch.equal(state[f"resnet_global.{last}"], state[f"resnet_local.{last}"])


def test_plan_of_a_training_names_the_weights(tmp_path):
    events = plan_training(make_source(), tmp_path / "c.safetensors", PLAIN)
    planned = next(events)
    assert isinstance(planned, TrainingPlanned)
    assert planned.encoder_weights == RANDOM
