"""Fixtures of the stories: a window with the panel, and its screenshots."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QApplication

from helpers.window_fixtures import (  # noqa: F401
    dialogs_need_answers,
    no_remembered_choices,
    small_checkpoint,
)
from napari_uhrseg.ui.panel import Panel

PICTURES = Path(__file__).parents[2] / "docs" / "images"
SIZE = 1400, 900
DRAW_SECONDS = 0.3  # until what was written last is shown
README_SECONDS = 2.0

Canvas = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture
def open_window(make_napari_viewer) -> Iterator[Callable[[], tuple[Any, Panel]]]:
    """Return a function that opens a window with the panel, as napari's menu does."""
    panels = []

    def open_one() -> tuple[napari.Viewer, Panel]:
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(*SIZE)
        _, panel = viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
        panels.append(panel)
        return viewer, panel

    yield open_one
    for panel in panels:
        panel.stop()
    assert QThreadPool.globalInstance().waitForDone(600_000)


@pytest.fixture
def take_picture(request, tmp_path) -> Callable[[napari.Viewer, str], Canvas]:
    """Return a function that saves the window and returns the canvas, (h, w, 3).

    The picture is saved in the folder of the test. With ``--update-screenshots``, it
    replaces the picture of this name in the documentation, if there is one.
    """
    updates = request.config.getoption("--update-screenshots")

    def take(viewer: napari.Viewer, name: str) -> Canvas:
        end = time.monotonic() + (README_SECONDS if updates else DRAW_SECONDS)
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)
        path = PICTURES / f"{name}.png"
        if not (updates and path.exists()):
            path = tmp_path / path.name
        viewer.screenshot(str(path), canvas_only=False, flash=False)
        return viewer.screenshot(canvas_only=True, flash=False)[..., :3]

    return take
