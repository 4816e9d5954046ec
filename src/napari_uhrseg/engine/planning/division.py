"""Division of an image into windows or frames whose computation keeps the budget."""

from napari_uhrseg.engine.planning.batch_size import RunSize, RunSizer
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid, frame_sides
from napari_uhrseg.engine.tiling.tiling import Tiling
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.types import Region, Roi, SegmentSettings

MAX_SEAM = 512  # pixels; frames are a thousand and more
# chunks along a side of a block that one process writes while it computes the next one:
# a fast device would wait for larger ones
MOST_CHUNKS = 4

Size = tuple[int, int]


def divide(
    sizer: RunSizer,
    pixels: Size,
    scale: float,
    settings: SegmentSettings,
    shared: bool,
) -> tuple[Tiling, RunSize]:
    """Return the windows or frames of a run, and how they are computed.

    Parameters
    ----------
    sizer
        The checkpoint, its device and the budget.
    pixels
        Height and width of the image in level-0 pixels.
    scale
        Level-0 pixels for each run pixel, above 0.
    settings
        Settings of the user.
    shared
        If True, several processes share the blocks, and no window waits for the next
        block.

    Raises
    ------
    PlanError
        If the overlap is invalid.
    DeviceError
        If a single window, or the smallest frame, exceeds the budget.
    """
    if sizer.profiler.checkpoint.card.spec.frame is None:
        return _windows(sizer, pixels, scale, settings, shared)
    return _frames(sizer, pixels, scale, settings)


def labelled_area(shape: Size, chosen: Region | None) -> Roi:
    """Return the level-0 rectangle on chunk borders that a run of a region labels."""
    whole = Roi(0, 0, *shape)
    if chosen is None:
        return whole
    return chosen.bounds.intersect(whole).align(STORE_CHUNK).intersect(whole)


def _windows(
    sizer: RunSizer,
    pixels: Size,
    scale: float,
    settings: SegmentSettings,
    shared: bool,
) -> tuple[WindowGrid, RunSize]:
    spec, limits = sizer.profiler.checkpoint.card.spec, settings.limits
    wanted = spec.overlap if settings.overlap is None else settings.overlap
    overlap = _checked(wanted, spec.window - 1, "windows", spec.window)
    area = labelled_area(pixels, settings.region)
    grid = WindowGrid.make(
        _run_shape(pixels, scale), spec.window, overlap, spec.placement
    )

    def block_chunks(seconds: float) -> int:
        per_chunk = (STORE_CHUNK / scale / (spec.window - overlap)) ** 2 * seconds
        fitting = int((limits.block_seconds / max(per_chunk, 1e-9)) ** 0.5)
        most = limits.block_chunks
        return max(1, min(fitting, most if shared else min(most, MOST_CHUNKS)))

    def waiting(chunks: int) -> int:
        return 0 if shared else grid.count_repeats(area, scale, chunks * STORE_CHUNK)[1]

    return grid, sizer.windows(settings.batch_size, block_chunks, waiting, scale)


def _frames(
    sizer: RunSizer, pixels: Size, scale: float, settings: SegmentSettings
) -> tuple[FrameGrid, RunSize]:
    """Return the largest frames within card and budget; those of the settings first."""
    spec = sizer.profiler.checkpoint.card.spec
    assert spec.frame is not None
    wanted = spec.overlap if settings.overlap is None else settings.overlap
    overlap = _checked(wanted, MAX_SEAM, "frames", spec.frame)
    shape = _run_shape(pixels, scale)
    sides = frame_sides(spec.frame, shape, overlap, scale)
    for side in sides if settings.frame is None else (settings.frame, *sides):
        grid = FrameGrid.make(pixels, shape, scale, side, overlap, spec)
        sized = sizer.frames(grid, scale)
        if sized is not None:
            return grid, sized
    raise sizer.frame_too_large(grid, scale)


def _checked(overlap: int, most: int, what: str, side: int) -> int:
    """Return the overlap. Raises PlanError if it is not 0 to ``most``."""
    if not 0 <= overlap <= most:
        raise PlanError(
            f"An overlap of {overlap} does not fit {what} of {side} pixels.",
            f"Choose 0 to {min(most, side // 2)}.",
        )
    return overlap


def _run_shape(pixels: Size, scale: float) -> Size:
    return max(1, round(pixels[0] / scale)), max(1, round(pixels[1] / scale))
