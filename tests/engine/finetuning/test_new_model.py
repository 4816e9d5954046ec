"""A new network where the weights it would start from do not come."""

import socket
import threading

import pytest
import torch

from helpers.corrections import LEGEND, squares
from napari_uhrseg.engine.cancellation import Cancelled
from napari_uhrseg.engine.finetuning.new_model import RANDOM_INIT, new_checkpoint
from napari_uhrseg.types import Limits


@pytest.fixture
def hanging(monkeypatch, tmp_path):
    """No weights are at hand, and names are looked up for ever."""
    asked, over = threading.Event(), threading.Event()

    def look_up(*_, **__):
        asked.set()
        over.wait(60)
        raise RuntimeError("the test is over")  # an OSError would be tried again

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield asked
    over.set()
    for thread in threading.enumerate():
        if thread.name == "uhrseg-weights":
            thread.join(60)


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_not_waited_for(hanging):
    image, limits = squares((64, 64))[1], Limits(download_s=5.0)
    made = new_checkpoint("plain", {}, LEGEND, image, "resnet18", limits=limits)
    assert hanging.is_set()
    assert made.card.trained_on == RANDOM_INIT
    alone = new_checkpoint("plain", {}, LEGEND, image, "resnet18", pretrained=False)
    weights = made.model.state_dict()
    for name, value in alone.model.state_dict().items():
        assert torch.equal(weights[name], value), name


@pytest.mark.slow
def test_waiting_for_the_hub_can_be_cancelled(hanging):
    with pytest.raises(Cancelled):
        new_checkpoint(
            "plain", {}, LEGEND, squares((64, 64))[1], "resnet18", stop=hanging.is_set
        )
