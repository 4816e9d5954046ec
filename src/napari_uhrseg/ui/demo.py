"""Demo: the sample scene in a window with the panel; can run unattended."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.paths import unused_path
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.ui.panel import Panel

READY_SECONDS = 120  # to load torch and to plan the run
RUN_SECONDS = 1800
DRAW_SECONDS = 0.5  # until the last labels of a run are drawn
SIZE = 1600, 1000
MIDDLE = 0.375  # share of the scene's height and width that methods are compared on


def show() -> None:
    """Open the window and return when it is closed."""
    open_demo()
    napari.run()


def run_alone(folder: Path) -> list[Path]:
    """Segment the sample scene through the window and save screenshots.

    The default method segments the whole scene. Each other method with a sample
    checkpoint segments the middle of it.

    Returns
    -------
    list of Path
        Screenshots and label stores in ``folder``.

    Raises
    ------
    UhrSegError
        If a run did not start, did not end in time or failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    viewer, panel = open_demo()
    try:
        chosen = panel.segment.model.model.currentData()
        store = _new_store(folder / "labels.zarr")
        segment(panel, store)
        made += [_picture(viewer, folder / "window.png"), store]
        for method in [name for name in REGISTRY if name != chosen]:
            if choose(panel, method):
                look_at_middle(viewer, panel)
                store = _new_store(folder / f"{method}.zarr")
                segment(panel, store)
                made += [_picture(viewer, folder / f"{method}.png"), store]
    finally:
        viewer.close()
    return made


def choose(panel: Panel, method: str) -> bool:
    """Choose a method in the panel; return False if it has no checkpoint."""
    part, bar = panel.segment.model, panel.segment.bar
    wait_for(lambda: part.any_found, READY_SECONDS, "No checkpoints were found", bar)
    part.model.setCurrentIndex(part.model.findData(method))
    return part.path is not None


def look_at_middle(viewer: napari.Viewer, panel: Panel) -> None:
    """Show the middle of the scene at full resolution and choose the current view.

    The view lies within one cell of frames, so that few frames have to run.
    """
    scene = viewer.layers[0]
    first, last = scene.extent.world
    viewer.scene.camera.center = (0, *(first + MIDDLE * (last - first)))
    viewer.scene.camera.zoom = 1 / max(scene.scale)
    where = panel.segment.form.where
    where.setCurrentIndex(where.findText("Current view"))


def _new_store(path: Path) -> Path:
    """Return the path, or an unused one if an earlier demo has written to it."""
    return unused_path(path) if path.exists() else path


def _picture(viewer: napari.Viewer, path: Path) -> Path:
    drawn = time.monotonic() + DRAW_SECONDS
    while time.monotonic() < drawn:
        QApplication.processEvents()
        time.sleep(0.01)
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    return path


def open_demo() -> tuple[napari.Viewer, Panel]:
    """Open a viewer with the sample scene and dock the panel."""
    viewer = napari.Viewer(title="napari-uhrseg demo")
    viewer.window.resize(*SIZE)
    if not viewer.open_sample("napari-uhrseg", "orthophoto"):
        viewer.close()
        raise UhrSegError(_last_notification("The sample scene cannot be opened."))
    _, panel = viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    panel.segment.output.set_image(None)  # the demo's labels are temporary
    return viewer, panel


def segment(panel: Panel, store: Path) -> None:
    """Press Segment and wait for the run to end.

    Raises
    ------
    UhrSegError
        If the run did not start, did not end in time or failed.
    """
    bar = panel.segment.bar
    press_segment(panel, store)
    wait_for(
        lambda: not bar.cancel.isEnabled(), RUN_SECONDS, "The run takes too long", bar
    )
    if not bar.status.text().startswith("Done"):
        raise UhrSegError(_last_notification(bar.status.text()))


def press_segment(panel: Panel, store: Path) -> None:
    """Choose the output, wait for the plan and press Segment."""
    part = panel.segment

    def planned() -> bool:
        there = part.plan.text().startswith("Plan:")
        return bool(there and part.bar.start.isEnabled())

    part.output.use(store)
    part.plan.setText("")
    wait_for(planned, READY_SECONDS, "Segment cannot be pressed", part.bar)
    part.bar.start.click()


def wait_for(
    happened: Callable[[], bool], seconds: float, complaint: str, bar: Any
) -> None:
    """Process events until a condition is true.

    Parameters
    ----------
    happened
        Function that returns the condition.
    seconds
        Longest time to wait, in seconds.
    complaint
        Text of the error after this time.
    bar
        Run controls whose status is added to the text.

    Raises
    ------
    UhrSegError
        If the condition is not true in time.
    """
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise UhrSegError(f"{complaint}: {bar.status.text()}")
        QApplication.processEvents()
        time.sleep(0.01)


def _last_notification(otherwise: str) -> str:
    records = notification_manager.records
    return records[-1].message if records else otherwise
