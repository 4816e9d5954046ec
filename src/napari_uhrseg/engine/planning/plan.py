"""What a run will do and what it will take, before it is done."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from napari_uhrseg._version import __version__
from napari_uhrseg.engine.network.device import (
    Device,
    MemoryBudget,
    choose_precision,
    find_device,
)
from napari_uhrseg.engine.planning.batch_size import Sized, Sizer
from napari_uhrseg.engine.planning.image_fit import fit_bands, fit_scale, fit_values
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid, frame_sides
from napari_uhrseg.engine.tiling.window_grid import Grid
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import CHUNK
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import InputSpec, Polygon, Roi, Run, SegmentSettings
from napari_uhrseg.units import counted, format_bytes, format_seconds

PATIENCE = 1.0  # seconds of network time a block may take
MAX_BLOCK = 8  # chunks a side
MAX_SEAM = 512  # pixels; frames are a thousand and more


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes: seconds as expected, bytes at most."""

    seconds: float
    device_bytes: int
    host_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as it will be: pure values, nothing computed yet.

    ``run`` has no id and no class map before a store gives them. ``grid`` lies in
    run pixels, ``block_chunks`` is the side of a block in chunks of the store (1 for
    frames, whose cells are the blocks). ``sized`` is how the work was cut up to keep
    the budget.

    ``windows`` (frames, where there are frames) are expected to be run: those across
    the borders of blocks once, as far as they can be kept for the next block, in a
    run whose blocks come row by row or around one place. ``at_most`` would be run if
    none were kept. ``computed_twice`` is the share of ``windows`` beyond one each.
    """

    shape: tuple[int, int]
    run: Run
    grid: Grid | FrameGrid
    block_chunks: int
    device: Device
    budget: MemoryBudget
    sized: Sized
    estimate: Estimate
    windows: int
    at_most: int
    computed_twice: float
    warnings: tuple[str, ...]

    def blocks(self, pending: np.ndarray) -> list[Roi]:
        """Rectangles of level-0 pixels that hold all pending chunks.

        Parameters
        ----------
        pending
            (chunk rows, chunk columns) bool: chunks still to be done.
        """
        found = []
        step = self.block_chunks
        for row in range(0, pending.shape[0], step):
            for column in range(0, pending.shape[1], step):
                ys, xs = np.nonzero(pending[row : row + step, column : column + step])
                if len(ys):
                    found.append(_chunks_roi(row, column, ys, xs, self.shape))
        return found

    def run_region(self, roi: Roi) -> Roi:
        """The run pixels that the labels of a level-0 rectangle are taken from."""
        return _run_region(roi, self.run.scale, self.grid.shape)

    def summary(self) -> str:
        """One line for the person: windows, time, memory, batch and device."""
        e = self.estimate
        what = counted(self.windows, "window")
        if isinstance(self.grid, FrameGrid):
            height, width = self.grid.fed
            what = counted(self.windows, "frame")
            what += f" of {width:,} x {height:,} pixels"
            if self.sized.rows is not None:
                what += f" in bands of {self.sized.rows} rows"
        return (
            f"{what}, about {format_seconds(e.seconds)}, "
            f"{format_bytes(e.device_bytes)} on {self.device.name} "
            f"(batch {self.run.batch_size}, {self.run.precision}), "
            f"{format_bytes(e.disk_bytes)} on disk"
        )


def make_plan(
    image: Image,
    checkpoint: Checkpoint,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    *,
    shared: bool = False,
) -> Plan:
    """Plan a run of the checkpoint over the image.

    The speed is measured on a batch of zeros the first time a checkpoint meets a
    device, which takes a second or so; memory is traced without running. Where the
    blocks are ``shared`` among processes, none keeps windows for the next one.

    Raises
    ------
    PlanError
        The bands, the region, the scale or the overlap cannot be.
    DeviceError
        The device is missing, or the budget too small for a single window.
    """
    settings = settings or SegmentSettings()
    spec = checkpoint.card.spec
    device = find_device(budget.device if budget else settings.device)
    budget = replace(budget or MemoryBudget.default(device.id), device=device.id)
    scale, warning = _scale(image, spec, settings)
    overlap = _overlap(spec, settings)
    shape = max(1, round(image.shape[0] / scale)), max(1, round(image.shape[1] / scale))
    region = settings.region
    if region and not region.bounds.intersect(Roi(0, 0, *image.shape)).area:
        raise PlanError(
            "The chosen region lies outside the image.",
            f"The image has {image.shape[0]} rows and {image.shape[1]} columns.",
        )
    area = labelled_area(image.shape, region)
    precision = choose_precision(settings.precision, device)
    sizer = Sizer.make(checkpoint, device, budget, precision, settings.threads)
    grid: Grid | FrameGrid
    if spec.frame is None:
        windows = Grid.make(shape, spec.window, overlap, spec.placement)
        grid, side = windows, spec.window
        sized = sizer.windows(
            settings.batch_size,
            lambda seconds: _block_chunks(spec, scale, overlap, seconds),
            lambda chunks: 0 if shared else _repeats(area, windows, scale, chunks)[1],
            scale,
        )
    else:
        grid, side, sized = _frames(sizer, image.shape, scale, overlap, settings.frame)
    run = Run(
        id=0,
        image_path="" if image.path is None else str(image.path),
        image_fingerprint=image.fingerprint,
        model=checkpoint.card.model,
        checkpoint=checkpoint.card.name or checkpoint.path.name,
        checkpoint_hash=checkpoint.hash,
        class_map=(),
        bands=fit_bands(image, spec.channels, settings.bands),
        scale=scale,
        value_range=fit_values(image, spec, settings.value_range),
        window=side,
        overlap=overlap,
        placement=spec.placement if spec.frame is None else "frame",
        merge=spec.merge,
        region=region,
        skip_glass=settings.skip_glass and image.is_slide,
        batch_size=sized.batch,
        precision=precision,
        plane=dict(image.plane),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
    plan = Plan(
        shape=image.shape,
        run=run,
        grid=grid,
        block_chunks=sized.block_chunks,
        device=device,
        budget=sizer.budget,
        sized=sized,
        estimate=Estimate(0, 0, 0, 0),
        windows=0,
        at_most=0,
        computed_twice=0,
        warnings=tuple(w for w in (warning, sizer.warning) if w),
    )
    return with_estimate(plan)


def with_estimate(plan: Plan) -> Plan:
    """The plan with its windows counted and its needs estimated."""
    area = labelled_area(plan.shape, plan.run.region)
    region = plan.run_region(area)
    if isinstance(plan.grid, FrameGrid):
        most = total = plan.grid.count(region)
        fed = plan.grid.fed[0] * plan.grid.fed[1]
        twice = max(0.0, total * fed / region.area - 1)
    else:
        once = plan.grid.count(region)
        repeated, waiting = _repeats(area, plan.grid, plan.run.scale, plan.block_chunks)
        spared = min(1.0, plan.sized.kept / waiting) if waiting else 1.0
        most, total = once + repeated, once + round(repeated * (1 - spared))
        twice = total / once - 1
    return replace(
        plan,
        windows=total,
        at_most=most,
        computed_twice=twice,
        estimate=Estimate(
            seconds=total * plan.sized.seconds,
            device_bytes=plan.sized.need.on(plan.device.id),
            host_bytes=plan.sized.need.host,
            # labels and confidence with their levels; measured to shrink fivefold
            disk_bytes=int(area.area * 2 * 4 / 3 / 5),
        ),
    )


def labelled_area(shape: tuple[int, int], chosen: Roi | Polygon | None) -> Roi:
    """The level-0 rectangle, on chunk borders, that a run of a region works in."""
    whole = Roi(0, 0, *shape)
    if chosen is None:
        return whole
    return chosen.bounds.intersect(whole).align(CHUNK).intersect(whole)


def _run_region(roi: Roi, scale: float, shape: tuple[int, int]) -> Roi:
    y, x = int(roi.y / scale), int(roi.x / scale)
    bottom = min(shape[0], int(np.ceil(roi.bottom / scale)))
    right = min(shape[1], int(np.ceil(roi.right / scale)))
    return Roi(y, x, max(1, bottom - y), max(1, right - x))


def _repeats(area: Roi, grid: Grid, scale: float, chunks: int) -> tuple[int, int]:
    """How often blocks of an area need a window that another one has run.

    And how many windows wait for their next block at a time: blocks that are done lie
    together, so what waits lies around them, and around all of the area at most,
    which has as many windows as four borders from end to end.
    """
    side = chunks * CHUNK

    def count(roi: Roi) -> int:
        return grid.count(_run_region(roi, scale, grid.shape))

    # windows of a block are its rows times its columns
    rows = range(area.y // side * side, area.bottom, side)
    columns = range(area.x // side * side, area.right, side)
    down = [count(Roi(y, columns[0], side, side).intersect(area)) for y in rows]
    along = [count(Roi(rows[0], x, side, side).intersect(area)) for x in columns]
    repeated = sum(down) * sum(along) // down[0] - count(area)
    borders = len(rows) + len(columns) - 2
    return repeated, -(-repeated * min(4, borders) // max(1, borders))


def _chunks_roi(
    row: int, column: int, ys: np.ndarray, xs: np.ndarray, shape: tuple[int, int]
) -> Roi:
    y, x = int(row + ys.min()) * CHUNK, int(column + xs.min()) * CHUNK
    bottom = min(shape[0], int(row + ys.max() + 1) * CHUNK)
    right = min(shape[1], int(column + xs.max() + 1) * CHUNK)
    return Roi(y, x, bottom - y, right - x)


def _scale(
    image: Image, spec: InputSpec, settings: SegmentSettings
) -> tuple[float, str]:
    if settings.scale is None:
        return fit_scale(image, spec)
    if not 1 / 64 <= settings.scale <= 64:
        raise PlanError(
            f"Scale {settings.scale:g} is not usable.", "Choose 1/64 to 64."
        )
    return settings.scale, ""


def _overlap(spec: InputSpec, settings: SegmentSettings) -> int:
    """Pixels that windows share, or the width of the seams between frames."""
    if spec.frame is None:
        own, most, what = spec.window_overlap, spec.window - 1, "windows"
    else:
        own, most, what = spec.frame_overlap, MAX_SEAM, "frames"
    overlap = own if settings.overlap is None else settings.overlap
    if not 0 <= overlap <= most:
        side = spec.frame or spec.window
        raise PlanError(
            f"An overlap of {overlap} does not fit {what} of {side} pixels.",
            f"Choose 0 to {min(most, side // 2)}.",
        )
    return overlap


def _frames(
    sizer: Sizer,
    pixels: tuple[int, int],
    scale: float,
    overlap: int,
    first: int | None,
) -> tuple[FrameGrid, int, Sized]:
    """The largest frames that card and budget allow, their side, and how they run.

    ``first`` is a side that is taken where it fits.
    """
    spec = sizer.how.checkpoint.card.spec
    assert spec.frame is not None
    shape = max(1, round(pixels[0] / scale)), max(1, round(pixels[1] / scale))
    sides = frame_sides(spec.frame, shape, overlap, scale)
    for largest in sides if first is None else (first, *sides):
        grid = FrameGrid.make(pixels, shape, scale, largest, overlap, spec)
        sized = sizer.frames(grid, scale)
        if sized is not None:
            return grid, largest, sized
    raise sizer.frame_too_large(grid, scale)


def _block_chunks(spec: InputSpec, scale: float, overlap: int, seconds: float) -> int:
    """Side of a block in chunks: what patience allows."""
    per_chunk = (CHUNK / scale / (spec.window - overlap)) ** 2 * seconds
    return max(1, min(int((PATIENCE / max(per_chunk, 1e-9)) ** 0.5), MAX_BLOCK))
