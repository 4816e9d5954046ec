"""Measure how long painting blocks the window, and its memory, on 100,000 x 100,000.

The mouse paints 180 strokes, and the view moves there and back after every third. The
first rows are the time that an event handler of the plugin, with napari's painting in
it, blocks the Qt thread: by the clock, and CPU time alone. The next row has the delays
of a heartbeat, drawing by software included.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import psutil
from common import MB
from qtpy.QtCore import QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

TURN = 30  # strokes after which the moves go back: decoded chunks are bounded too
PER_MOVE = 3  # strokes between two moves of the view
BEAT = 0.01  # seconds between two heartbeats of the Qt thread
Times = tuple[float, float]  # seconds by the clock, and CPU seconds


@dataclass(frozen=True)
class Size:
    """Side of the image in pixels, strokes and seconds a stroke.

    ``labelled`` is the side in chunks of the square with labels, where the strokes are.
    ``settle`` is the time in seconds until the first stroke, ``window`` the width and
    height of the window in pixels.
    """

    side: int = 100_000
    strokes: int = 180
    seconds: float = 1.0
    labelled: int = 8
    settle: float = 3.0
    window: tuple[int, int] = (1600, 1000)


FULL, TINY = Size(), Size(4096, 4, 0.02, 1, 0.1, (900, 600))


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Paint in a window of napari; takes no files."""
    import napari

    viewer = napari.Viewer(title="napari-uhrseg benchmark")
    viewer.window.resize(*size.window)
    try:
        with TemporaryDirectory() as folder:
            return _measure(viewer, Path(folder) / "labels.zarr", size)
    finally:
        viewer.close()


def _measure(viewer: Any, path: Path, size: Size) -> Table:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.samples.world import CLASSES, virtual_levels
    from napari_uhrseg.types import Legend
    from napari_uhrseg.ui.correct.paint_area import PaintArea
    from napari_uhrseg.ui.correct.write_queue import WriteQueue
    from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image

    image = image_from_array(
        virtual_levels(seed=1, size=size.side), name="world", rgb=True
    )
    store = _labelled(path, image, Legend(tuple(CLASSES)), size)
    add_image(viewer, image)
    view = LabelsView(viewer, store, image)
    corrections, writer = Corrections.open(store), WriteQueue()
    moves: list[Times] = []
    releases: list[Times] = []
    patches = [_timed(PaintArea, name, moves) for name in ("_follow", "_loaded")]
    place = np.array([size.side // 2, size.side // 2]) + 700
    _look_at(viewer, place)
    area = PaintArea(viewer, view, corrections, writer)
    _live(size.settle)
    area.layer.brush_size = 40
    beats = [time.monotonic()]
    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start(round(BEAT * 1000))
    process, memory = psutil.Process(), []
    on_disk: list[float] = []
    for number in range(size.strokes):
        if number and number % PER_MOVE == 0:
            place += (1 if (number - 1) // TURN % 2 == 0 else -1) * np.array((310, 150))
            _look_at(viewer, place)
            _live(size.seconds / 2)
        area.layer.selected_label = 1 + number % 4
        releases.append(_stroke(viewer, number))
        released = time.monotonic()
        writer.submit(time.monotonic, then=lambda t, r=released: on_disk.append(t - r))
        _live(size.seconds)
        memory.append(process.memory_info().rss)
    timer.stop()
    table = Table("Qt thread blocked by", "median", "99 %", "longest")
    table.title = f"Painting: {size.strokes} strokes on {size.side:,} x {size.side:,}"
    moved = [t for t in moves if t[1] > 0.005]  # most calls find nothing to do
    for title, times in (("release of a stroke", releases),
                         ("a move of the work area", moved)):  # fmt: skip
        clock, processor = zip(*times, strict=True) if times else ((), ())
        table.add_row(title, *_figures(clock))
        table.add_row("  CPU time", *_figures(processor))
    table.add_row("anything, with drawing (heartbeat)", *_figures(
        np.diff(beats) - BEAT))  # fmt: skip
    table.add_row("(not blocked) release until written", *_figures(on_disk))
    third, last = memory[size.strokes // 3 - 1] / MB, memory[-1] / MB
    table.caption = (
        f"Memory after {size.strokes // 3} strokes {third:.0f} MB, "
        f"after {size.strokes} "
        f"{last:.0f} MB, "
        f"at most {max(memory) / MB:.0f} MB; {sum(corrections.counts().values()):,} "
        "pixels corrected"
    )
    area.stop()
    for patch in patches:
        patch.stop()
    writer.close()
    corrections.close()
    store.close()
    return table


def _labelled(path: Path, image: Any, legend: Any, size: Size) -> Any:
    """Create a store with blobs of labels in its middle."""
    from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import Block, Roi, Run

    store = LabelStore.create(path, image, legend)
    run = store.run_ledger.start_run(Run(
        id=0, image_path="", image_fingerprint=image.fingerprint, model="plain",
        checkpoint="", checkpoint_hash="", class_map=tuple(c.id for c in legend),
        bands=(0, 1, 2), scale=1.0, value_range=(0.0, 255.0), window=512, overlap=0,
        placement="shift", merge="uniform", region=None, skip_background=False,
        batch_size=1, precision="fp32",
    ))  # fmt: skip
    rng = np.random.default_rng(1)
    first = size.side // 2 // STORE_CHUNK
    for row in range(first, first + size.labelled):
        for column in range(first, first + size.labelled):
            small = rng.integers(1, 5, (STORE_CHUNK // 16, STORE_CHUNK // 16), np.uint8)
            labels = small.repeat(16, 0).repeat(16, 1)
            roi = Roi(row * STORE_CHUNK, column * STORE_CHUNK, STORE_CHUNK, STORE_CHUNK)
            store.write(Block(roi, labels, np.full_like(labels, 128)), run.id, "done")
    return store


def _timed(owner: type, name: str, into: list[Times]) -> Any:
    """Add the seconds of each call of a method to a list; return the started patch."""
    real: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any) -> Any:
        start = time.perf_counter(), time.thread_time()
        try:
            return real(*args)
        finally:
            into.append(_since(start))

    patch = mock.patch.object(owner, name, timed)
    patch.start()
    return patch


def _since(start: Times) -> Times:
    return time.perf_counter() - start[0], time.thread_time() - start[1]


def _look_at(viewer: Any, place: Any) -> None:
    viewer.scene.camera.zoom = 1.0
    viewer.scene.camera.center = tuple(place)


def _stroke(viewer: Any, number: int) -> Times:
    """Drag the mouse along a curve of some 300 pixels; return its release's time."""
    canvas = viewer.window._qt_viewer.canvas.native
    kinds, left = QMouseEvent.Type, Qt.MouseButton.LeftButton
    none = Qt.MouseButton.NoButton
    t = np.linspace(0, np.pi, 15)
    height, width = viewer.canvas.size
    xs = width / 2 + 150 * np.cos(t + number)
    ys = height / 2 + 100 * np.sin(t + number)
    points = [QPoint(round(x), round(y)) for x, y in zip(xs, ys, strict=True)]
    events = [(kinds.MouseButtonPress, points[0], left, left)]
    events += [(kinds.MouseMove, p, none, left) for p in points[1:]]
    events.append((kinds.MouseButtonRelease, points[-1], left, none))
    took = 0.0, 0.0
    for kind, at, button, buttons in events:
        event = QMouseEvent(
            kind, QPointF(at), QPointF(canvas.mapToGlobal(at)), button, buttons,
            Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        start = time.perf_counter(), time.thread_time()
        QApplication.sendEvent(canvas, event)
        took = _since(start)
        _live(0.01)
    return took


def _live(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.001)


def _figures(seconds: Any) -> tuple[str, ...]:
    if not len(seconds):
        return ("-",) * 3
    ms = np.asarray(seconds) * 1000
    figures = np.median(ms), np.percentile(ms, 99), ms.max()
    return tuple(f"{max(0.0, value):.0f} ms" for value in figures)
