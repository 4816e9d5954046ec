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
from napari_uhrseg.engine.network.profiling import Profiler
from napari_uhrseg.engine.planning.batch_size import MakeProfiler, RunSize, RunSizer
from napari_uhrseg.engine.planning.division import divide, labelled_area
from napari_uhrseg.engine.planning.image_fit import (
    describe_input,
    fit_bands,
    fit_scale,
    fit_values,
)
from napari_uhrseg.engine.planning.run_questions import RunQuestion, image_questions
from napari_uhrseg.engine.planning.tissue_windows import touched_windows
from napari_uhrseg.engine.tiling.run_pixels import run_region
from napari_uhrseg.engine.tiling.tiling import Tiling
from napari_uhrseg.errors import PlanError, without_credentials
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import (
    InputSpec,
    Precision,
    Roi,
    Run,
    SegmentSettings,
    TissueMask,
)
from napari_uhrseg.units import format_bytes, format_seconds, formatted, left_out_text

MAX_FRAME_RATIO = 2  # side of a frame, in training crops, without a warning


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
    warnings
        Notes for the user.
    input
        Bands that the network gets, and the values of black and white, as a text.
    questions
        Questions about the image that the settings do not answer. A run asks them.
    estimate
        Cost of the run, from `with_estimate` as the fields below.
    windows
        Windows or frames that are expected to run. A window across the border of
        blocks counts once if its logits can wait for the next block. This applies to
        blocks that come row by row or around one point.
    at_most
        Windows that run if no logits can wait.
    computed_twice
        Share of ``windows`` that repeat another one.
    tissue
        Tissue of the image; only its pixels get labels. None: all pixels.
    left_out
        Windows or frames without tissue, which do not run.
    left_out_area
        Share of the region (of its bounds) without tissue, 0 to 1.
    """

    shape: tuple[int, int]
    run: Run
    grid: Tiling
    block_chunks: int
    device: Device
    budget: MemoryBudget
    sized: RunSize
    warnings: tuple[str, ...]
    input: str
    questions: tuple[RunQuestion, ...] = ()
    estimate: Estimate = Estimate(0, 0, 0, 0)
    windows: int = 0
    at_most: int = 0
    computed_twice: float = 0.0
    tissue: TissueMask | None = None
    left_out: int = 0
    left_out_area: float = 0.0

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
        return run_region(roi, self.run.scale, self.grid.shape)

    def count(self, block: Roi) -> int:
        """Return the number of windows or frames that run for a level-0 rectangle."""
        region = self.run_region(block)
        if self.tissue is None:
            return self.grid.count(region)
        scale = self.run.scale
        return int(touched_windows(self.grid, region, scale, self.tissue).sum())

    def summary(self) -> str:
        """Return one line for the user: windows, time, memory, batch and device."""
        e = self.estimate
        what = self.grid.describe(self.windows)
        if self.sized.rows is not None:
            what += f" in bands of {self.sized.rows} rows"
        return (
            f"{what}, about {format_seconds(e.seconds)}, "
            f"{format_bytes(e.device_bytes)} on {self.device.name} "
            f"(batch {self.run.batch_size}, {self.run.precision}), "
            f"{format_bytes(e.disk_bytes)} on disk{self._without_tissue()}"
        )

    def _without_tissue(self) -> str:
        if self.tissue is None:
            return ""
        return f"; {left_out_text(self.left_out, self.left_out_area)}"


def make_plan(
    image: Image,
    checkpoint: Checkpoint,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    *,
    shared: bool = False,
    make_profiler: MakeProfiler = Profiler,
) -> Plan:
    """Plan a run of the checkpoint over the image.

    The speed of a checkpoint on a device is measured once, which takes a second.

    Parameters
    ----------
    image, checkpoint
        The image to be segmented; the network and its card.
    settings, budget
        Settings of the user, and memory that the run may use. None: the defaults.
    shared
        True if several processes share the blocks: no window waits for the next one.
    make_profiler
        Returns the profiler of a checkpoint, device, precision and number of threads.

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
    device = find_device(budget.device if budget else settings.device)
    budget = replace(budget or MemoryBudget.default(device.id), device=device.id)
    moved = ""
    if checkpoint.model.external and device.id != "cpu":
        device, budget = _on_cpu(budget)
        moved = f"{checkpoint.path.name} runs on the CPU, as ONNX networks do here."
    scale, warning = _scale(image, checkpoint.card.spec, settings)
    _check_region(image, settings)
    precision = _precision(checkpoint, settings, device)
    sizer = RunSizer.make(
        checkpoint,
        device,
        budget,
        precision,
        settings,
        image.dtype.itemsize,
        make_profiler,
    )
    grid, sized = divide(sizer, image.shape, scale, settings, shared)
    run = _new_run(image, settings, sizer.profiler, grid, scale, sized.batch)
    return with_estimate(Plan(
        shape=image.shape,
        run=run,
        grid=grid,
        block_chunks=sized.block_chunks,
        device=device,
        budget=sizer.budget,
        sized=sized,
        warnings=tuple(filter(None, (moved, *_warnings(warning, sizer, grid)))),
        input=describe_input(image, run.bands, run.value_range),
        questions=image_questions(image, checkpoint.card.spec, settings),
        tissue=settings.tissue,
    ))  # fmt: skip


def _on_cpu(budget: MemoryBudget) -> tuple[Device, MemoryBudget]:
    """Return the CPU, and at most its default budget."""
    usual = MemoryBudget.default("cpu")
    least = min(usual.device_bytes, budget.device_bytes)
    return find_device("cpu"), replace(usual, device_bytes=least)


def _precision(
    checkpoint: Checkpoint, settings: SegmentSettings, device: Device
) -> Precision:
    if checkpoint.model.external:
        return "fp32"
    return choose_precision(settings.precision, device)


def _warnings(scale: str, sizer: RunSizer, grid: Tiling) -> tuple[str, ...]:
    """Return the warnings of the scale, of the frames and of the sizes, if any."""
    checkpoint = sizer.profiler.checkpoint
    found = (scale, _frame_warning(checkpoint, grid), sizer.warning)
    return tuple(warning for warning in found if warning)


def _frame_warning(checkpoint: Checkpoint, grid: Tiling) -> str:
    """Return a warning if frames are much larger than the crops of the training."""
    crop = checkpoint.card.spec.window
    side = min(grid.side, max(grid.shape))
    if not checkpoint.model.frames_like_crops or side <= MAX_FRAME_RATIO * crop:
        return ""
    return (
        f"The checkpoint was trained on crops of {formatted(crop)} pixels, and its "
        "frames here "
        f"have up to {formatted(side)} pixels. It may be less accurate in such frames. "
        "Train it "
        f"with larger crops (window), or with frames of {crop} pixels (frame)."
    )


def _new_run(
    image: Image,
    settings: SegmentSettings,
    profiler: Profiler,
    grid: Tiling,
    scale: float,
    batch_size: int,
) -> Run:
    """Return the record of a run that no store has yet."""
    checkpoint, precision = profiler.checkpoint, profiler.precision
    spec = checkpoint.card.spec
    bands = fit_bands(image, spec.channels, settings.bands)
    return Run(
        id=0,
        image_path=without_credentials(str(image.path or "")),
        image_fingerprint=image.fingerprint,
        model=checkpoint.card.model,
        checkpoint=checkpoint.card.name or checkpoint.path.name,
        checkpoint_hash=checkpoint.hash,
        class_map=(),
        bands=bands,
        scale=scale,
        value_range=fit_values(image, spec, bands, settings.value_range),
        window=grid.side,
        overlap=grid.overlap,
        placement=grid.placement,
        merge=spec.merge,
        region=settings.region,
        skip_background=settings.skip_background
        and image.is_slide
        and settings.tissue is None,
        batch_size=batch_size,
        precision=precision,
        plane=dict(image.plane),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        tissue=settings.tissue.id if settings.tissue else "",
    )


def with_estimate(plan: Plan) -> Plan:
    """Return the plan with its windows counted and its cost estimated."""
    area = labelled_area(plan.shape, plan.run.region)
    windows, at_most, computed_twice = plan.grid.count_run(
        area, plan.run.scale, plan.block_chunks * STORE_CHUNK, plan.sized.kept
    )
    left_out, empty = 0, 0.0
    if plan.tissue is not None:
        touched = touched_windows(
            plan.grid, plan.run_region(area), plan.run.scale, plan.tissue
        )
        run, left_out = int(touched.sum()), int((~touched).sum())
        windows, at_most = (round(n * run / touched.size) for n in (windows, at_most))
        chosen = plan.run.region.bounds if plan.run.region else area
        empty = 1 - plan.tissue.share_of(chosen.intersect(area))
    return replace(
        plan,
        windows=windows,
        at_most=at_most,
        computed_twice=computed_twice,
        left_out=left_out,
        left_out_area=empty,
        estimate=Estimate(
            seconds=windows * plan.sized.seconds,
            device_bytes=plan.sized.need.on(plan.device.id),
            host_bytes=plan.sized.need.host,
            # labels and confidence with their levels; measured to shrink fivefold
            disk_bytes=int(area.area * (1 - empty) * 2 * 4 / 3 / 5),
        ),
    )


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


def _check_region(image: Image, settings: SegmentSettings) -> None:
    region, tissue = settings.region, settings.tissue
    if tissue is not None and tissue.image_shape != image.shape:
        raise PlanError(
            f"The tissue mask is of an image of {tissue.image_shape[0]} rows and "
            f"{tissue.image_shape[1]} columns.",
            "Detect the tissue of this image.",
        )
    if region and not region.bounds.intersect(Roi(0, 0, *image.shape)).area:
        raise PlanError(
            "The chosen region lies outside the image.",
            f"The image has {image.shape[0]} rows and {image.shape[1]} columns.",
        )
