"""Measure seams between frames, blended and side by side."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import MB, sample
from rich.table import Table

from napari_uhrseg.engine.events import Planned
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Roi, SegmentSettings

REACH = 2  # pixels to either side of a border where a step would show


@dataclass(frozen=True)
class Size:
    """Methods, and the side in pixels of the scene's part, or None for all of it."""

    methods: tuple[str, ...] = ("isdnet", "glnet", "ehsnet")
    side: int | None = None


FULL, TINY = Size(), Size(("isdnet",), 1200)


def steps(image: Image, checkpoint: Checkpoint, overlap: int) -> tuple[float, float]:
    """Return the share of neighbours of two classes: at borders, and elsewhere.

    Parameters
    ----------
    image
        An image that is larger than a frame.
    checkpoint
        A model that runs on frames.
    overlap
        The overlap of the frames in pixels.
    """
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


def run(path: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Count class changes at the frames' borders, relative to those elsewhere.

    Parameters
    ----------
    path, checkpoint
        Files to use instead of the samples.
    size
        The amount of work.
    """
    table = Table(title="Seams between frames")
    for title in ("checkpoint", "overlap", "changes at a border / elsewhere"):
        table.add_column(title, justify="right")
    image = open_image(path or sample("scene.tif"))
    if size.side:
        pixels = image.read(Roi(0, 0, size.side, size.side)).data
        image = image_from_array(pixels, name=image.name, rgb=True)
    chosen = [sample(f"{m}.safetensors") for m in size.methods]
    for file in [checkpoint] if checkpoint else chosen:
        loaded = load_checkpoint(file)
        for overlap in (0, 128):
            at, rest = steps(image, loaded, overlap)
            table.add_row(file.stem, str(overlap), f"{at / rest:.2f}")
    return table
