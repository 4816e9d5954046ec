"""The sample scene in a window with the panel ready; unseen, it presses Segment."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.ui.output import free_name
from napari_uhrseg.ui.panel import Panel

READY_SECONDS = 120  # for torch to be loaded and the run to be planned
RUN_SECONDS = 1800
SIZE = 1600, 1000


def show() -> None:
    """Open the window and stay until it is closed."""
    open_demo()
    napari.run()


def run_alone(folder: Path) -> tuple[Path, Path]:
    """Segment the sample scene as a person would, and take a picture at the end.

    Returns
    -------
    The screenshot's path and the label store's, both new in ``folder``.

    Raises
    ------
    UhrSegError
        The run did not start, did not end in time or did not end well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture, store = folder / "window.png", folder / "labels.zarr"
    if store.exists():  # an earlier demo's, and perhaps corrected since
        store = free_name(store)
    viewer, panel = open_demo()
    try:
        segment(panel, store)
        viewer.screenshot(str(picture), canvas_only=False, flash=False)
    finally:
        viewer.close()
    return picture, store


def open_demo() -> tuple[napari.Viewer, Panel]:
    """A viewer with the sample scene, and the panel docked."""
    viewer = napari.Viewer(title="napari-uhrseg demo")
    viewer.window.resize(*SIZE)
    if not viewer.open_sample("napari-uhrseg", "orthophoto"):
        viewer.close()
        raise UhrSegError(_last_notification("The sample scene cannot be opened."))
    _, panel = viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    panel.segment.output.set_image(None)  # labels of a look around are not kept
    return viewer, panel


def segment(panel: Panel, store: Path) -> None:
    """Press Segment, and wait for the run to end.

    Raises
    ------
    UhrSegError
        It did not start, did not end in time or did not end well.
    """
    bar = panel.segment.bar
    press_segment(panel, store)
    wait_for(lambda: not bar.cancel.isEnabled(), RUN_SECONDS, "The run is long", bar)
    if not bar.status.text().startswith("Done"):
        raise UhrSegError(_last_notification(bar.status.text()))


def press_segment(panel: Panel, store: Path) -> None:
    """Choose the output, wait for the plan, press Segment."""
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
    """Let the window live until something has happened in it."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise UhrSegError(f"{complaint}: {bar.status.text()}")
        QApplication.processEvents()
        time.sleep(0.01)


def _last_notification(otherwise: str) -> str:
    records = notification_manager.records
    return records[-1].message if records else otherwise
