"""Measure seams between windows and between frames, blended and side by side."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import MB, sample
from rich.table import Table

from napari_uhrseg.engine.events import Planned
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.engine.tiling.tiling import Tiling
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
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

    methods: tuple[str, ...] = (
        "plain", "scpseg", "sgnet", "isdnet", "glnet", "ehsnet",
    )  # fmt: skip
    side: int | None = None


FULL, TINY = Size(), Size(("plain", "isdnet"), 1200)


def steps(image: Image, checkpoint: Checkpoint, overlap: int) -> tuple[float, float]:
    """Return the share of neighbours of two classes: at borders, and elsewhere.

    Parameters
    ----------
    image
        An image that is larger than a window or frame.
    checkpoint
        The model.
    overlap
        The overlap of the windows or frames in pixels.
    """
    settings = SegmentSettings(device="cpu", threads=2, overlap=overlap)
    budget = MemoryBudget("cpu", 4096 * MB, 1024 * MB)
    with LabelStore.create(None, image, checkpoint.card.legend) as store:
        events = segment(image, checkpoint, store, settings, budget)
        planned = next(events)
        assert isinstance(planned, Planned)
        for _ in events:
            pass
        labels = np.asarray(store.prediction[0][:])
        grid = planned.plan.grid
    at, rest = [], []
    for axis in (0, 1):
        share = (np.diff(labels, axis=axis) != 0).mean(axis=1 - axis)
        near = np.zeros(len(share), bool)
        for seam in seams(grid, axis, overlap):
            near[seam] = True
        at.append(share[near].mean())
        rest.append(share[~near].mean())
    return float(np.mean(at)), float(np.mean(rest))


def seams(grid: Tiling, axis: int, overlap: int) -> Iterator[slice]:
    """Yield the pairs of neighbours at each seam; pair i are the pixels i and i + 1.

    Parameters
    ----------
    grid
        The windows or frames.
    axis
        0 for seams between rows, 1 for seams between columns.
    overlap
        The overlap of the frames in pixels.
    """
    if isinstance(grid, WindowGrid):  # all pixels that two windows share
        for before, start in pairwise(grid.xs if axis else grid.ys):
            yield slice(start - 1, before + grid.side)
        return
    assert isinstance(grid, FrameGrid)
    for line in (grid.columns if axis else grid.rows).borders[1:-1]:
        # a blended step lies somewhere in the seam, most likely in its middle
        centre = line + overlap // 2
        yield slice(centre - REACH, centre + REACH)


def run(path: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Count class changes at the borders, relative to those elsewhere.

    Windows overlap by an eighth of their side, frames by 128 pixels.

    Parameters
    ----------
    path, checkpoint
        Files to use instead of the samples.
    size
        The amount of work.
    """
    table = Table(title="Seams between windows and frames")
    for title in ("checkpoint", "overlap", "changes at a border / elsewhere"):
        table.add_column(title, justify="right")
    image = open_image(path or sample("scene.tif"))
    if size.side:
        pixels = image.read(Roi(0, 0, size.side, size.side)).data
        image = image_from_array(pixels, name=image.name, rgb=True)
    chosen = [sample(f"{m}.safetensors") for m in size.methods]
    for file in [checkpoint] if checkpoint else chosen:
        loaded = load_checkpoint(file)
        spec = loaded.card.spec
        for overlap in (0, spec.window // 8 if spec.frame is None else 128):
            if spec.frame is None:
                spec = replace(spec, merge="taper")
                loaded = replace(loaded, card=replace(loaded.card, spec=spec))
            at, rest = steps(image, loaded, overlap)
            table.add_row(file.stem, str(overlap), f"{at / rest:.2f}")
    return table
