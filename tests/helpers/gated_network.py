"""Checkpoints of a small network that tests can hold back.

The encoder is registered in timm. Other processes do not know it.
"""

import os
from pathlib import Path

import timm
import torch
from timm.models import register_model
from torch import Tensor, nn

from helpers.gate import Gate
from napari_uhrseg.models.checkpoint import save_checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, LabelClass, Legend

LEGEND = Legend((LabelClass(1, "dark", "#203040"), LabelClass(2, "light", "#f0e0d0")))
GATED = "tu-gated_efficientnet"
default_cfgs: dict[str, object] = {}  # timm looks for these beside its models

FORWARD = Gate()  # forward passes: one pass for each window
LOADING = Gate()  # loading of a checkpoint


def open_gates() -> None:
    """Let all work on the network go on."""
    FORWARD.open()
    LOADING.open()


def _enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if inputs[0].device.type != "meta":  # plans trace the network there
        FORWARD.enter(len(inputs[0]))


@register_model
def gated_efficientnet(pretrained: bool = False, **options: object) -> nn.Module:
    """Return timm's smallest network, which waits at the gates."""
    LOADING.enter()
    made = timm.create_model("test_efficientnet", pretrained=pretrained, **options)
    made.register_forward_pre_hook(_enter)
    return made


def save_networks(folder: Path, encoder: str = GATED) -> list[Path]:
    """Write two checkpoints with different random weights, and return their files."""
    arguments = {
        "encoder": encoder,
        "window": 256,
        "options": {"decoder_channels": 16},
    }
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build("plain", arguments, LEGEND)
        card = Card("plain", arguments, LEGEND, model.spec, name=f"number {seed}")
        paths.append(folder / f"{seed}.safetensors")
        save_checkpoint(paths[-1], model, card)
    return paths


def touch(path: Path) -> None:
    """Give a file a later time, so that the next run loads the checkpoint again."""
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
