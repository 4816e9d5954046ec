"""Reduction of the memory of a run after a device ran out of it.

Windows run with half the batch, down to one window. Frames run in bands of rows, in
thinner bands, and as smaller frames. After that the run continues on the CPU, if the
user agrees. `RetriedWithLess` reports each step.
"""

from collections.abc import Callable

from napari_uhrseg.engine.cancellation import Cancelled, Stop
from napari_uhrseg.engine.events import RetriedWithLess
from napari_uhrseg.engine.planning.batch_size import BAND_ROWS
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid, frame_sides
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.types import InputSpec

CpuFallback = Callable[[str], bool]
"""Ask the user whether to continue on the CPU, given a message."""


class FrameTooLargeError(Exception):
    """Error: memory ran out in a frame."""


def retried(error: BaseException, change: str, batch_size: int = 1) -> RetriedWithLess:
    """Return the event for work that is repeated with less memory.

    Parameters
    ----------
    error
        Reason of the repetition.
    change
        Way in which the run continues, such as "on the CPU".
    batch_size
        Windows of a batch from now on.
    """
    return RetriedWithLess(batch_size, str(error).partition("\n")[0], change)


def fewer_rows(rows: int | None) -> int | None:
    """Return the rows of thinner bands of a frame. None: there are none.

    ``rows`` is None for a frame that runs at once.
    """
    return next((n for n in BAND_ROWS if rows is None or n < rows), None)


def smaller_frames(
    grid: FrameGrid, pixels: tuple[int, int], scale: float, spec: InputSpec
) -> FrameGrid | None:
    """Return the next smaller frames that are possible, or None.

    Parameters
    ----------
    grid
        The frames that are too large.
    pixels
        Height and width of the image in level-0 pixels.
    scale
        Level-0 pixels for each run pixel, above 0.
    spec
        The model's inputs.
    """
    most = max(grid.input_shape)
    for side in frame_sides(most, grid.shape, grid.overlap, scale):
        found = FrameGrid.make(pixels, grid.shape, scale, side, grid.overlap, spec)
        if max(found.input_shape) < most:
            return found
    return None


def confirm_cpu(
    message: str,
    error: BaseException,
    *,
    on_cpu: bool,
    ask: CpuFallback | None,
    stop: Stop | None,
) -> None:
    """Ask the user whether to continue on the CPU.

    Parameters
    ----------
    message
        Sentence that names the device and the work that does not fit it.
    error
        The error that the device raised.
    on_cpu
        True if the run is on the CPU already.
    ask
        Asks the user. None: nobody can be asked.
    stop
        Returns True if the user ended the run.

    Raises
    ------
    DeviceError
        If the run is on the CPU already, or the user does not agree.
    Cancelled
        If the user ended the run instead of answering.
    """
    if not on_cpu and ask is not None and ask(message):
        return
    if stop is not None and stop():
        raise Cancelled from error
    other = "lower the memory budget" if on_cpu else "continue on the CPU"
    raise DeviceError(
        message,
        f"Close other programs that use it, or {other}. Finished blocks are kept, and "
        "the run continues from there.",
    ) from error
