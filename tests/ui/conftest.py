"""A viewer with the panel in it, and real networks of little worth."""

from pathlib import Path

import pytest
from qtpy.QtCore import QThreadPool

from napari_uhrseg.types import Card, LabelClass, Legend
from napari_uhrseg.ui.panel import Panel
from napari_uhrseg.ui.triton import keep_triton_out

LEGEND = Legend((LabelClass(1, "dark", "#203040"), LabelClass(2, "light", "#f0e0d0")))
ARGUMENTS = {"architecture": "Unet", "encoder": "resnet18", "window": 256}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> list[Path]:
    keep_triton_out()
    import torch

    from napari_uhrseg.models.checkpoint import save_checkpoint
    from napari_uhrseg.models.registry import build

    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build("plain", ARGUMENTS, LEGEND)
        card = Card("plain", ARGUMENTS, LEGEND, model.spec, name=f"number {seed}")
        paths.append(tmp_path_factory.mktemp("ckpt") / f"{seed}.safetensors")
        save_checkpoint(paths[-1], model, card)
    return paths


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def panel(viewer):
    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel)
    yield panel
    panel.stop()
    assert QThreadPool.globalInstance().waitForDone(20_000)
