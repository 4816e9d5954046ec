"""Measure opening of images from the list of a project, and memory over many images.

Each image is a copy of a tiled pyramid with labels. An image is open when the canvas
has drawn it and the panel shows its labels.
"""

import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import MB, child, tiled
from rich.table import Table


@dataclass(frozen=True)
class Size:
    """Number of images, their side in pixels, and the seconds a user looks at one."""

    images: int = 50
    side: int = 8192
    look: float = 1.0


FULL, TINY = Size(), Size(2, 512, 0.1)
LONG = 120  # seconds until it gives up


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Open every image of a project in turn, in a window of napari."""
    table = Table("looked", "images", "side", "median", "95 %", "longest")
    for heading in ("first", "last"):
        table.add_column(heading)
    table.title = "Opening from a project's list; memory after an image"
    for look in (size.look, 0.0):
        row = child(__file__, str(size.images), str(size.side), str(look))
        median, p95, longest = np.percentile(row["seconds"], (50, 95, 100))
        table.add_row(
            f"{look:g} s", str(size.images), f"{size.side:,}", f"{median:.2f} s",
            f"{p95:.2f} s", f"{longest:.2f} s",
            *(f"{row['memory'][k] / MB:.0f} MB" for k in (0, -1)),
        )  # fmt: skip
    return table


def _make_project(folder: Path, count: int, side: int) -> Path:
    """Write images with labels and their project; return the project's path."""
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.io.project.project import Project, ProjectImage
    from napari_uhrseg.io.project.project_file import ProjectFile
    from napari_uhrseg.samples.world import CLASSES

    first = tiled(folder / "image-0.tif", side, "zlib")
    entries = []
    for number in range(count):
        path = folder / f"image-{number}.tif"
        if number:
            shutil.copyfile(first, path)
        entry = ProjectImage(path.name, f"labels/{path.name}.labels.zarr")
        LabelStore.create(folder / entry.labels, open_image(path), CLASSES).close()
        entries.append(entry)
    file = ProjectFile(folder / "slides.uhrproject.json")
    file.create(Project(tuple(entries), CLASSES))
    return file.path


def _measure(
    folder: Path, count: int, side: int, look: float
) -> dict[str, list[float]]:
    """Return the seconds until each image is open, and the bytes of memory then."""
    import napari
    import psutil
    from qtpy.QtWidgets import QApplication

    from napari_uhrseg.ui.panel import Panel

    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel)

    def wait(happened: object) -> None:
        end = time.monotonic() + LONG
        while not happened():  # type: ignore[operator]
            if time.monotonic() > end:
                raise TimeoutError("the image did not open")
            QApplication.processEvents()
            time.sleep(0.001)

    def opened(name: str) -> bool:
        image, view = panel.image.image, panel.segment.view
        names = {x.path.name for x in (image, view and view.image) if x is not None}
        return names == {name} and view is not None

    project = panel.project
    project.open(_make_project(folder, count, side))
    wait(lambda: project.list.count() == count)
    wait(lambda: panel.segment.form.hardware.device)  # torch is loaded
    seconds, memory = [], []
    for _ in range(count):
        end = time.monotonic() + look
        wait(lambda end=end: time.monotonic() >= end)
        start = time.monotonic()
        project.next.click()
        name = project.list.chosen
        wait(lambda name=name: opened(name))
        viewer.screenshot(canvas_only=True, flash=False)
        seconds.append(time.monotonic() - start)
        memory.append(psutil.Process().memory_info().rss)
    panel.stop()
    viewer.close()
    return {"seconds": seconds, "memory": memory}


def main(count: str, side: str, look: str) -> None:
    """Print the seconds and bytes of each image as JSON.

    Parameters
    ----------
    count, side
        The number of images, and their side in pixels.
    look
        Seconds between an image and the next.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(Path(folder), int(count), int(side), float(look))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
