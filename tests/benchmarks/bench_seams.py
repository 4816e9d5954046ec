"""What is seen of the seams between frames, blended and side by side."""

from pathlib import Path

import numpy as np
from common import MB, sample
from rich.table import Table

from napari_uhrseg.engine.events import Planned
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import SegmentSettings

REACH = 2  # pixels to either side of a border where a step would show


def steps(image: Image, checkpoint: Checkpoint, overlap: int) -> tuple[float, float]:
    """Share of neighbouring pixels of two classes: across the borders, elsewhere."""
    settings = SegmentSettings(device="cpu", threads=2, overlap=overlap)
    budget = MemoryBudget("cpu", 4096 * MB, 1024 * MB)
    with LabelStore.create(None, image, checkpoint.card.legend) as store:
        events = segment(image, checkpoint, store, settings, budget)
        planned = next(events)
        assert isinstance(planned, Planned)
        assert isinstance(planned.plan.grid, FrameGrid)
        for _ in events:
            pass
        labels = np.asarray(store.prediction[0][:])
        grid = planned.plan.grid
    at, rest = [], []
    for axis, lines in ((0, grid.rows.borders), (1, grid.columns.borders)):
        change = np.diff(labels, axis=axis) != 0
        share = change.mean(axis=1 - axis)
        near = np.zeros(len(share), bool)
        for line in lines[1:-1]:
            # a blended step lies somewhere in the seam, most likely in its middle
            centre = line + overlap // 2
            near[centre - REACH : centre + REACH] = True
        at.append(share[near].mean())
        rest.append(share[~near].mean())
    return float(np.mean(at)), float(np.mean(rest))


def run(path: Path | None, checkpoint: Path | None) -> Table:
    """Class changes at the frames' borders, relative to those elsewhere."""
    table = Table(title="Seams between frames")
    for title in ("checkpoint", "overlap", "changes at a border / elsewhere"):
        table.add_column(title, justify="right")
    image = open_image(path or sample("scene.tif"))
    chosen = [sample(f"{m}.safetensors") for m in ("isdnet", "glnet", "ehsnet")]
    for file in [checkpoint] if checkpoint else chosen:
        loaded = load_checkpoint(file)
        for overlap in (0, 128):
            at, rest = steps(image, loaded, overlap)
            table.add_row(file.stem, str(overlap), f"{at / rest:.2f}")
    return table
