"""Plan of a run: its windows or frames, its blocks, and its cost."""

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
from napari_uhrseg.engine.planning.batch_size import RunSize, RunSizer
from napari_uhrseg.engine.planning.image_fit import fit_bands, fit_scale, fit_values
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid, frame_sides
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import InputSpec, Polygon, Roi, Run, SegmentSettings
from napari_uhrseg.units import counted, format_bytes, format_seconds

MAX_SEAM = 512  # pixels; frames are a thousand and more


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of a run: seconds as expected, bytes as upper bounds."""

    seconds: float
    device_bytes: int
    host_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a run as plain values.

    Attributes
    ----------
    shape
        Height and width of the image in level-0 pixels.
    run
        The run's record. The store gives it an id and a class map later.
    grid
        Windows or frames, in run pixels.
    block_chunks
        Side of a block in chunks of the store. 1 for frames, whose cells are blocks.
    device, budget
        Device of the run, and the memory that it may use there.
    sized
        Division of the run that keeps the budget.
    estimate
        Cost of the run.
    windows
        Windows or frames that are expected to run. A window across the border of
        blocks counts once if its logits can wait for the next block. This applies to
        blocks that come row by row or around one point.
    at_most
        Windows that run if no logits can wait.
    computed_twice
        Share of ``windows`` that repeat another one.
    warnings
        Notes for the user.
    """

    shape: tuple[int, int]
    run: Run
    grid: WindowGrid | FrameGrid
    block_chunks: int
    device: Device
    budget: MemoryBudget
    sized: RunSize
    estimate: Estimate
    windows: int
    at_most: int
    computed_twice: float
    warnings: tuple[str, ...]

    def blocks(self, pending: np.ndarray) -> list[Roi]:
        """Return rectangles of level-0 pixels that cover all pending chunks.

        Parameters
        ----------
        pending
            (chunk rows, chunk columns) bool: chunks that are not done.
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
        """Return the run pixels that a level-0 rectangle gets its labels from."""
        return _run_region(roi, self.run.scale, self.grid.shape)

    def summary(self) -> str:
        """Return one line for the user: windows, time, memory, batch and device."""
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

    The first time a checkpoint runs on a device, its speed is measured on a batch of
    zeros, which takes about a second. Its memory is traced without running it.

    Parameters
    ----------
    image
        The image to be segmented.
    checkpoint
        The network and its card.
    settings
        Settings of the user. None: the defaults.
    budget
        Memory that the run may use. None: the default of the device.
    shared
        If True, several processes share the blocks, and no window waits for the next
        block.

    Returns
    -------
    Plan
        The plan with its estimated cost.

    Raises
    ------
    PlanError
        If the bands, the region, the scale or the overlap are invalid.
    DeviceError
        If the device is missing, or if a single window exceeds the budget.
    """
    settings = settings or SegmentSettings()
    spec = checkpoint.card.spec
    device = find_device(budget.device if budget else settings.device)
    budget = replace(budget or MemoryBudget.default(device.id), device=device.id)
    scale, warning = _scale(image, spec, settings)
    overlap = _overlap(spec, settings)
    _check_region(image, settings.region)
    precision = choose_precision(settings.precision, device)
    sizer = RunSizer.make(checkpoint, device, budget, precision, settings)
    grid, side, sized = (
        _windows(sizer, image.shape, scale, overlap, settings, shared)
        if spec.frame is None
        else _frames(sizer, image.shape, scale, overlap, settings.frame)
    )
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
        region=settings.region,
        skip_background=settings.skip_background and image.is_slide,
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
    """Return the plan with its windows counted and its cost estimated."""
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
    """Return the level-0 rectangle on chunk borders that a run of a region labels."""
    whole = Roi(0, 0, *shape)
    if chosen is None:
        return whole
    return chosen.bounds.intersect(whole).align(STORE_CHUNK).intersect(whole)


def _run_region(roi: Roi, scale: float, shape: tuple[int, int]) -> Roi:
    y, x = int(roi.y / scale), int(roi.x / scale)
    bottom = min(shape[0], int(np.ceil(roi.bottom / scale)))
    right = min(shape[1], int(np.ceil(roi.right / scale)))
    return Roi(y, x, max(1, bottom - y), max(1, right - x))


def _repeats(area: Roi, grid: WindowGrid, scale: float, chunks: int) -> tuple[int, int]:
    """Return how many windows repeat, and how many wait at a time.

    A window repeats if a block needs it after another block has run it. Finished
    blocks lie together, so the windows that wait lie around them. At most they lie
    around the whole area, which has as many windows as four borders from end to end.
    """
    side = chunks * STORE_CHUNK

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
    y, x = int(row + ys.min()) * STORE_CHUNK, int(column + xs.min()) * STORE_CHUNK
    bottom = min(shape[0], int(row + ys.max() + 1) * STORE_CHUNK)
    right = min(shape[1], int(column + xs.max() + 1) * STORE_CHUNK)
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
    """Return the pixels that windows share, or the width of the seams of frames."""
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


def _check_region(image: Image, region: Roi | Polygon | None) -> None:
    if region and not region.bounds.intersect(Roi(0, 0, *image.shape)).area:
        raise PlanError(
            "The chosen region lies outside the image.",
            f"The image has {image.shape[0]} rows and {image.shape[1]} columns.",
        )


def _windows(
    sizer: RunSizer,
    pixels: tuple[int, int],
    scale: float,
    overlap: int,
    settings: SegmentSettings,
    shared: bool,
) -> tuple[WindowGrid, int, RunSize]:
    """Return the windows over an image, their side, and how they run."""
    spec, limits = sizer.how.checkpoint.card.spec, settings.limits
    area = labelled_area(pixels, settings.region)
    grid = WindowGrid.make(
        _run_shape(pixels, scale), spec.window, overlap, spec.placement
    )

    def block_chunks(seconds: float) -> int:
        per_chunk = (STORE_CHUNK / scale / (spec.window - overlap)) ** 2 * seconds
        fitting = int((limits.block_seconds / max(per_chunk, 1e-9)) ** 0.5)
        return max(1, min(fitting, limits.block_chunks))

    def waiting(chunks: int) -> int:
        return 0 if shared else _repeats(area, grid, scale, chunks)[1]

    sized = sizer.windows(settings.batch_size, block_chunks, waiting, scale)
    return grid, spec.window, sized


def _frames(
    sizer: RunSizer,
    pixels: tuple[int, int],
    scale: float,
    overlap: int,
    first: int | None,
) -> tuple[FrameGrid, int, RunSize]:
    """Return the largest frames within card and budget, their side, and how they run.

    ``first`` is a side that is used if it fits.
    """
    spec = sizer.how.checkpoint.card.spec
    assert spec.frame is not None
    shape = _run_shape(pixels, scale)
    sides = frame_sides(spec.frame, shape, overlap, scale)
    for largest in sides if first is None else (first, *sides):
        grid = FrameGrid.make(pixels, shape, scale, largest, overlap, spec)
        sized = sizer.frames(grid, scale)
        if sized is not None:
            return grid, largest, sized
    raise sizer.frame_too_large(grid, scale)


def _run_shape(pixels: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(pixels[0] / scale)), max(1, round(pixels[1] / scale))
