"""Measure the time that the panel adds to napari's start.

It is compared with an empty dock, each in a process of its own.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from common import child
from rich.table import Table

TURNS = 6  # of the event loop, until all is drawn
STEPS = ("imported", "made", "docked", "drawn")


@dataclass(frozen=True)
class Size:
    """Number of processes of each kind, and of those that are not counted."""

    rounds: int = 5
    warm_up: int = 1


FULL, TINY = Size(), Size(1, 0)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Open the panel and an empty dock in turns; takes no files."""
    del image, checkpoint
    found: dict[str, list[list[float]]] = {"an empty dock": [], "the panel": []}
    for _ in range(size.warm_up):
        child(__file__, "the panel")  # Python keeps the modules' bytecode
    for _ in range(size.rounds):
        for name, rows in found.items():
            rows.append(child(__file__, name))
    table = Table(
        "ms until", *STEPS, title=f"Opening: median of {size.rounds}, and spread"
    )
    for name, rows in found.items():
        columns = list(zip(*rows, strict=True))
        table.add_row(
            name,
            *(f"{median(c):.0f} ({min(c):.0f} to {max(c):.0f})" for c in columns),
        )
    empty, panel = (median(row[-1] for row in rows) for rows in found.values())
    table.caption = f"The panel adds {panel - empty:.0f} ms."
    return table


def _measure(name: str) -> list[float]:
    """Return the milliseconds from the beginning to the end of each step."""
    import napari
    from qtpy.QtWidgets import QApplication, QWidget

    viewer = napari.Viewer()
    viewer.window.resize(1600, 1000)
    for _ in range(30):
        QApplication.processEvents()
        time.sleep(0.01)
    ends = [time.monotonic()]
    if name == "the panel":
        from napari_uhrseg.ui.dock import SegmentDock

        ends.append(time.monotonic())
        widget = SegmentDock(viewer)
    else:
        ends.append(ends[0])
        widget = QWidget()
        widget.setMinimumWidth(330)
    ends.append(time.monotonic())
    viewer.window.add_dock_widget(widget)
    ends.append(time.monotonic())
    for _ in range(TURNS):
        QApplication.processEvents()
    ends.append(time.monotonic())
    viewer.close()
    return [1000 * (end - ends[0]) for end in ends[1:]]


def main(name: str) -> None:
    """Print the milliseconds until the end of each step as JSON."""
    sys.stdout.write(json.dumps(_measure(name)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # torch may still be loading
