"""Measure how responsive the window is, and when the first label is shown.

The first rows include what napari does once: it opens the dock, draws the image, and
makes its first labels layer. Software GL draws a frame in 30 ms and the first one in
more.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import sample
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from rich.table import Table

BEAT = 0.01  # seconds between two heartbeats of the Qt thread
LONG = 600  # seconds until it gives up


@dataclass(frozen=True)
class Size:
    """Seconds that each state of the window is measured, and until the panel opens."""

    seconds: float = 6
    settle: float = 2


FULL, TINY = Size(), Size(0.1, 0.1)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Open a window, segment in it, and measure the event loop."""
    import napari

    viewer = napari.Viewer(title="napari-uhrseg benchmark")
    viewer.window.resize(1600, 1000)
    try:
        with TemporaryDirectory() as folder:
            store = Path(folder) / "labels.zarr"
            image = image or sample("scene.tif")
            return _measure(viewer, image, checkpoint, store, size)
    finally:
        viewer.close()


def _measure(
    viewer: Any, image: Path, checkpoint: Path | None, store: Path, size: Size
) -> Table:
    table = Table("window", "median", "99 %", "longest", title="Event loop: delay")
    _delays(_seconds(size.settle))  # napari's own first frames

    dock = viewer.window.add_plugin_dock_widget
    parts: list[Any] = []

    def open_panel() -> None:
        parts.append(dock("napari-uhrseg", "Segment")[1])

    QTimer.singleShot(0, open_panel)
    loaded = _delays(lambda: bool(parts) and parts[0].segment.form.hardware.device)
    table.add_row("the panel opens, torch is loaded", *loaded)
    panel = parts[0]
    opened = _delays(
        _then(
            lambda: panel.image.open_paths([image]),
            lambda: bool(panel.image.image and panel.image.image.path == image),
        )
    )
    table.add_row("an image opens", *opened)
    if checkpoint is not None:
        panel.segment.model.use(checkpoint)
        _delays(lambda: panel.segment.model.path == checkpoint)
    panel.segment.output.use(store)
    panel.segment.plan.setText("")
    bar = panel.segment.bar
    planned = _delays(lambda: panel.segment.plan.text() and bar.start.isEnabled())
    table.add_row("planning", *planned)
    table.add_row("nothing going on", *_delays(_seconds(size.seconds)))
    table.add_row("panning", *_delays(_seconds(size.seconds), _pan(viewer)))
    clicked = time.monotonic()
    labelled = _delays(_then(bar.start.click, lambda: _labels_in_view(viewer)))
    first = time.monotonic() - clicked
    table.add_row("Segment, to the first label", *labelled)
    table.add_row("a run going on", *_delays(_seconds(size.seconds)))
    table.add_row("a run and panning", *_delays(_seconds(size.seconds), _pan(viewer)))
    table.caption = f"From the click to the first label in view: {first:.2f} s"
    bar.cancel.click()
    _delays(bar.start.isEnabled)
    return table


def _delays(
    until: Callable[[], Any], act: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Return the median, 99th percentile and longest delay of a heartbeat, in ms."""
    beats = [time.monotonic()]
    timer = QTimer()
    timer.setInterval(round(BEAT * 1000))
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start()
    while not until():
        if time.monotonic() > beats[0] + LONG:
            raise TimeoutError("the window did not come to it")
        act()
        QApplication.processEvents()
        time.sleep(0.001)
    timer.stop()
    late = np.diff([*beats, time.monotonic()]) * 1000 - BEAT * 1000
    figures = np.median(late), np.percentile(late, 99), late.max()
    return tuple(f"{max(0, value):.0f} ms" for value in figures)


def _seconds(count: float) -> Callable[[], bool]:
    end = time.monotonic() + count
    return lambda: time.monotonic() > end


def _then(begin: Callable[[], None], until: Callable[[], Any]) -> Callable[[], Any]:
    """Begin in an event of the window, so that the beginning is measured too."""
    QTimer.singleShot(0, begin)
    return until


def _pan(viewer: Any) -> Callable[[], None]:
    """Return a function that moves the view a little, at most 20 times a second."""
    last = [time.monotonic()]

    def act() -> None:
        if time.monotonic() > last[0] + 0.05:
            last[0] = time.monotonic()
            camera = viewer.scene.camera
            z, y, x = (0.0, *camera.center)[-3:]
            camera.center = (z, y + 3 / camera.zoom, x + 3 / camera.zoom)

    return act


def _labels_in_view(viewer: Any) -> bool:
    """Return whether a Labels layer has a label in the current view."""
    return any(
        layer._type_string == "labels" and np.asarray(layer._slice.image.raw).any()
        for layer in viewer.layers
    )
