"""Measure how long the plugin's functions block the Qt thread while tools are used.

A window with a canvas of 2560 x 1600 pixels shows an image of 8192 x 8192 pixels with
labels. Each tool is used with a long drag, and the next second is measured too. Every
function that Qt calls is one event. The figures are the longest times of the plugin's
own share of an event, without what napari and vispy compute and draw in it. CPU time
does not contain the waiting for other threads and processes.

Rows go to tables/tool_events.csv, but not of the tiny size.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any

import numpy as np
from measurements import TABLES, put_rows
from qtpy.QtWidgets import QApplication
from rich.table import Table

TABLE = "tool_events.csv"
NOT_OURS = ("/napari/", "/vispy/", "/psygnal/", "/superqt/")
TESTS = str(Path(__file__).parents[1])
Point = tuple[float, float]


@dataclass(frozen=True)
class Size:
    """Canvas in pixels, side of the image, and number of positions of a drag."""

    canvas: tuple[int, int] = (2560, 1600)
    side: int = 8192
    moves: int = 60
    tools: tuple[str, ...] = (
        "Brush", "Edge brush", "Wand", "Smart fill", "Outline", "Bucket", "Eraser",
    )  # fmt: skip


FULL, TINY = Size(), Size((500, 400), 2560, 5, ("Brush", "Wand"))


@dataclass(slots=True)
class Event:
    """Function that Qt called, and the seconds of the plugin in it."""

    name: str
    clock: float = 0.0
    processor: float = 0.0


class OwnTime:
    """Profiler of this thread that adds up the plugin's share of each event."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._event = Event("")
        self._stack: list[bool | None] = []  # ours, not ours, or of the tests
        self._owners: dict[CodeType, bool | str | None] = {}
        self._last = 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[list[Event]]:
        """Measure the block; yield the list of its events."""
        self.events, self._stack = [], []
        sys.setprofile(self._profile)
        try:
            yield self.events
        finally:
            sys.setprofile(None)

    def _profile(self, frame: FrameType, kind: str, _: object) -> None:
        if kind == "call":
            self._add()
            before = self._stack[-1] if self._stack else None
            owner = self._owner(frame.f_code)
            owner = bool(before) if isinstance(owner, str) else owner
            if before is None and owner is not None:
                self._event = Event(frame.f_code.co_qualname)
            self._stack.append(owner)
            self._restart()
        elif kind == "return" and self._stack:
            self._add()
            ended = self._stack.pop()
            before = self._stack[-1] if self._stack else None
            if before is None and ended is not None:
                self.events.append(self._event)
            self._restart()

    def _restart(self) -> None:
        self._last = time.perf_counter(), time.thread_time()

    def _add(self) -> None:
        if self._stack and self._stack[-1]:
            self._event.clock += time.perf_counter() - self._last[0]
            self._event.processor += time.thread_time() - self._last[1]

    def _owner(self, code: CodeType) -> bool | str | None:
        """Return the owner of a function; text: that of its caller."""
        if code not in self._owners:
            path = code.co_filename.replace("\\", "/")
            owner: bool | str | None = "caller"
            if "/napari_uhrseg/" in path:
                owner = True
            elif path.startswith(TESTS):
                owner = None
            elif any(part in path for part in NOT_OURS):
                owner = False
            self._owners[code] = owner
        return self._owners[code]


class _Patience:
    """Waiting as pytest-qt offers it."""

    def waitUntil(self, until: Any, timeout: int = 0) -> None:
        while not until():
            self.wait(5)

    def wait(self, milliseconds: int) -> None:
        ends = time.monotonic() + milliseconds / 1000
        while time.monotonic() < ends:
            QApplication.processEvents()
            time.sleep(0.001)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Use the tools in a window of napari; takes no files."""
    import napari

    sys.path.insert(0, TESTS)  # for the helpers, if pytest does not run this
    from helpers.canvas import make_store
    from helpers.tool_bench import ToolBench
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.ui.workers.import_torch import keep_triton_out

    viewer = napari.Viewer(title="napari-uhrseg benchmark")
    keep_triton_out()  # as the panel does
    rows = []
    try:
        with TemporaryDirectory() as folder:
            picture = image_from_array(
                _levels(size.side), name="blobs", rgb=True,
                pixel_size=(0.5, 0.5), unit="metre",
            )  # fmt: skip
            with make_store(Path(folder) / "labels.zarr", picture) as store:
                canvas = viewer.window._qt_viewer.canvas.native
                canvas.setFixedSize(*size.canvas)
                bench = ToolBench(viewer, store, picture, _Patience())
                own = OwnTime()
                for number, title in enumerate(size.tools):
                    rows.append(_used(bench, own, title, 1 + number % 3, size))
                bench.close()
    finally:
        viewer.close()
    if size == FULL:
        put_rows(TABLES / TABLE, rows, ("tool",))
    height, width = viewer.canvas.size
    table = Table(
        "tool", "events", "longest (ms)", "CPU time (ms)", "function",
        title=f"Own time on the Qt thread, canvas of {width} x {height} pixels",
    )  # fmt: skip
    for row in rows:
        table.add_row(*map(str, row.values()))
    return table


def _used(
    bench: Any, own: OwnTime, title: str, class_id: int, size: Size
) -> dict[str, object]:
    """Return the row of a tool.

    Parameters
    ----------
    bench
        Panel with the tools, and a mouse.
    own
        The profiler.
    title
        Name of the tool.
    class_id
        Class that is painted.
    size
        Number of positions of the drag.
    """
    with own.running() as events:
        bench.choose(title, 0 if title == "Eraser" else class_id)
        bench.layer.brush_size = 80
        way = _way(title, size)
        bench.mouse.press(*way)
        bench.mouse.release(*way[-1])
        bench.settle()
        bench.qtbot.wait(1000)
    longest = max(events, key=lambda event: event.processor)
    return {
        "tool": title,
        "events": len(events),
        "clock_ms": round(1000 * max(event.clock for event in events), 1),
        "processor_ms": round(1000 * longest.processor, 1),
        "function": longest.name,
    }


def _way(title: str, size: Size) -> list[Point]:
    """Return a drag that fills most of the view, or one click for the bucket."""
    from helpers.tool_bench import CENTRE

    width, height = size.canvas
    if title == "Bucket":
        return [CENTRE]
    t = np.linspace(0, 1, size.moves)
    if title in ("Wand", "Smart fill"):  # to the right: higher tolerance
        y, x = CENTRE[0] + 0 * t, CENTRE[1] + t * 0.35 * width
    else:
        y = CENTRE[0] + 0.45 * height * np.sin(6 * np.pi * t)
        x = CENTRE[1] + 0.45 * width * np.cos(2 * np.pi * t)
    return list(zip(y.tolist(), x.tolist(), strict=True))


def _levels(side: int) -> list[Any]:
    """Return a pyramid of coloured blobs with noise."""
    rng = np.random.default_rng(0)
    blobs = rng.integers(40, 216, (side // 64, side // 64, 3), np.uint8)
    noise = rng.integers(0, 12, (1024, 1024, 3), np.uint8)
    level = blobs.repeat(64, 0).repeat(64, 1)
    for y in range(0, side, 1024):
        for x in range(0, side, 1024):
            part = level[y : y + 1024, x : x + 1024]
            part += noise[: part.shape[0], : part.shape[1]]
    levels = [level]
    while max(levels[-1].shape[:2]) > 1024:
        levels.append(levels[-1][::2, ::2])
    return levels
