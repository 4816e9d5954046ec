"""Measure opening and first picture by image size, and peak memory.

Each image is opened in a process of its own.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import MB, child, peak_bytes, sample
from rich.table import Table


@dataclass(frozen=True)
class Size:
    """Sides of the images, and of the square that is segmented, in pixels."""

    sides: tuple[int, ...] = (4096, 30_000, 100_000)
    labelled: int = 2048


FULL, TINY = Size(), Size((1024,), 256)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Open every image in a window of napari."""
    table = Table(
        "image", "open", "in the window", "memory: opened", "shown", "and segmented"
    )
    table.title = (
        "Opening: seconds after imports; peak memory above a started napari; "
        f"{size.labelled} x {size.labelled} pixels segmented"
    )
    cases = [str(image)] if image else [str(side) for side in size.sides]
    for case in cases:
        row = child(__file__, case, str(checkpoint or ""), str(size.labelled))
        memory = [f"{row[k] / MB:.0f} MB" for k in ("opened", "shown", "segmented")]
        table.add_row(
            row["name"], f"{row['open']:.3f} s", f"{row['show']:.2f} s", *memory
        )
    return table


def _measure(case: str, checkpoint: Path, labelled: int) -> dict[str, object]:
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_uhrseg.ui.workers.import_torch import keep_triton_out

    viewer = napari.Viewer()
    QApplication.processEvents()
    keep_triton_out()  # after the window has loaded Mesa, before torch
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import Roi, SegmentSettings
    from napari_uhrseg.ui.layers.label_layers import add_image
    from napari_uhrseg.ui.plugin import virtual_image

    before = peak_bytes()
    start = time.monotonic()
    image = virtual_image(int(case)) if case.isdigit() else open_image(case)
    opened, memory_opened = time.monotonic() - start, peak_bytes() - before
    start = time.monotonic()
    add_image(viewer, image)
    QApplication.processEvents()
    viewer.screenshot(canvas_only=True, flash=False)
    shown, memory_shown = time.monotonic() - start, peak_bytes() - before
    middle = Roi(
        image.shape[0] // 2048 * 1024, image.shape[1] // 2048 * 1024, labelled, labelled
    )
    loaded = load_checkpoint(checkpoint)
    with LabelStore.create(None, image, loaded.card.legend) as store:
        for _ in segment(image, loaded, store, SegmentSettings(region=middle)):
            pass
    result = {
        "name": f"{image.shape[1]:,} x {image.shape[0]:,}",
        "open": opened,
        "show": shown,
        "opened": memory_opened,
        "shown": memory_shown,
        "segmented": peak_bytes() - before,
    }
    viewer.close()
    return result


def main(case: str, checkpoint: str, side: str) -> None:
    """Print the name, seconds and bytes as JSON.

    Parameters
    ----------
    case
        An image file, or the side of a virtual image in pixels.
    checkpoint
        A checkpoint, or nothing for the sample.
    side
        The side of the square that is segmented, in pixels.
    """
    path = Path(checkpoint) if checkpoint else sample("scpseg.safetensors")
    sys.stdout.write(json.dumps(_measure(case, path, int(side))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
