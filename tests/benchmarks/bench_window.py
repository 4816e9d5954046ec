"""How free the window is while a run goes on, and how soon the first label shows."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from rich.table import Table

BEAT = 0.01  # seconds between two heartbeats of the Qt thread
SECONDS = 6.0


def run(image: Path | None, checkpoint: Path | None) -> Table:
    from napari_uhrseg.ui.demo import open_demo

    viewer, panel = open_demo()
    try:
        if image is not None:
            panel.image.open_paths([image])
            _live(lambda: panel.image.image.path == image, 60)
        if checkpoint is not None:
            panel.segment.model.use(checkpoint)
            _live(lambda: panel.segment.model.path == checkpoint, 60)
        with TemporaryDirectory() as folder:
            return _measure(viewer, panel, Path(folder) / "labels.zarr")
    finally:
        viewer.close()


def _measure(viewer: Any, panel: Any, store: Path) -> Table:
    from napari_uhrseg.ui.demo import press_segment

    table = Table("window", "median", "99 %", "longest", title="Event loop: delay")
    table.add_row("nothing going on", *_delays(lambda: None))
    table.add_row("panning", *_delays(_pan(viewer)))
    start = time.monotonic()
    press_segment(panel, store)
    clicked = time.monotonic()
    _live(lambda: _labels_in_view(viewer), 600)
    first = time.monotonic() - clicked
    table.add_row("a run going on", *_delays(lambda: None))
    table.add_row("a run and panning", *_delays(_pan(viewer)))
    table.caption = (
        f"From the click to the first label in view: {first:.2f} s "
        f"(planned {clicked - start:.2f} s before)"
    )
    panel.segment.bar.cancel.click()
    _live(lambda: panel.segment.bar.start.isEnabled(), 60)
    return table


def _delays(act: Callable[[], None]) -> tuple[str, ...]:
    """Median, 99th percentile and longest delay of a heartbeat, in ms."""
    beats = []
    timer = QTimer()
    timer.setInterval(round(BEAT * 1000))
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        act()
        QApplication.processEvents()
        time.sleep(0.001)
    timer.stop()
    late = np.diff(beats) * 1000 - BEAT * 1000
    figures = np.median(late), np.percentile(late, 99), late.max()
    return tuple(f"{max(0, value):.0f} ms" for value in figures)


def _pan(viewer: Any) -> Callable[[], None]:
    """Moves the view a little, at most 20 times a second."""
    last = [time.monotonic()]

    def act() -> None:
        if time.monotonic() > last[0] + 0.05:
            last[0] = time.monotonic()
            camera = viewer.scene.camera
            z, y, x = (0.0, *camera.center)[-3:]
            camera.center = (z, y + 3 / camera.zoom, x + 3 / camera.zoom)

    return act


def _labels_in_view(viewer: Any) -> bool:
    """Whether a Labels layer has a label in what is on screen now."""
    return any(
        layer._type_string == "labels" and np.asarray(layer._slice.image.raw).any()
        for layer in viewer.layers
    )


def _live(happened: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError("the window did not come to it")
        QApplication.processEvents()
        time.sleep(0.001)
