"""How much memory a run needs, part by part, and whether that keeps the budget."""

from dataclasses import dataclass

from napari_uhrseg.engine.network.activation_memory import Size
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.types import InputSpec
from napari_uhrseg.units import MB, format_bytes

CUDA_CONTEXT = 600 * MB  # what the driver shows before the first tensor
PROGRAM = 96 * MB  # libraries loaded by the run, threads, the buffers of the store
SLACK = 1.1  # what allocators hold beyond what was asked of them
CACHE = 256 * MB, 32 * MB  # decoded chunks of the image: at most, and at least
OPEN = 2  # blocks whose logits are held at once
ROWS = 256  # rows of logits that become labels at a time


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on the device and in main memory; on the CPU the two are one."""

    device: int
    host: int

    def within(self, budget: MemoryBudget) -> bool:
        if budget.device == "cpu":
            return self.device + self.host <= budget.device_bytes
        return self.device <= budget.device_bytes and self.host <= budget.host_bytes

    def on(self, device: str) -> int:
        """What the budget of that device must be."""
        return self.device + self.host if device == "cpu" else self.device


@dataclass(frozen=True, slots=True)
class Shape:
    """How a run is cut up, in what memory depends on.

    ``batch``, ``block`` (a side in run pixels) and ``stored`` (in level-0 pixels) are
    of windows; ``frame`` (height, width) and ``stored`` of frames. ``ahead`` is how
    many batches or frames are read before they are needed, ``cache`` the bytes of
    decoded chunks that are kept, ``kept`` how many windows wait for other blocks.
    """

    ahead: int
    cache: int
    batch: int = 1
    block: float = 0
    stored: float = 0
    frame: Size | None = None
    kept: int = 0


def need(
    weights: int,
    spec: InputSpec,
    classes: int,
    forward: int,
    shape: Shape,
    device: str,
) -> Need:
    """What a run takes.

    Parameters
    ----------
    weights
        Bytes of the network as it runs.
    forward
        Bytes of one forward pass beyond weights and inputs, as measured.
    device
        Its id.
    """
    on_cpu = device == "cpu"
    pixels = sum(
        shape.frame[0] * shape.frame[1]
        if shape.frame is not None and view.extent == "frame"
        else view.side**2
        for view in spec.views.values()
    )
    inputs = shape.batch * pixels * spec.channels * 4
    items = shape.ahead + 2 if shape.ahead else 1
    if shape.frame is None:
        merged = OPEN * shape.block**2 * (classes + 1) * 4
        if on_cpu:  # a batch's answer, and its parts, while the next one is run
            merged += 2 * shape.batch * window_bytes(spec, classes)
            items += 1
        answer = shape.block * ROWS * (4 * classes + 4) * 4
    else:
        # the logits are of the forward pass; borders are kept as float16
        merged = 0.0
        answer = max(shape.frame) * ROWS * (4 * classes + 4) * 4
    working = forward + merged + answer
    # label and confidence, a byte each: of the block that is put together, of one that
    # is being written, and as much again twice for copies: class ids, level-0 pixels,
    # coarser levels, chunks that are encoded
    host = PROGRAM + shape.cache + 12 * shape.stored**2
    host += shape.kept * window_bytes(spec, classes) * SLACK
    host += items * inputs + pixels * spec.channels * 2  # one as it is decoded
    if on_cpu:
        return Need(int(weights + working * SLACK), int(host))
    return Need(int(CUDA_CONTEXT + weights + (working + inputs) * SLACK), int(host))


def window_bytes(spec: InputSpec, classes: int) -> int:
    """Of the logits of a window, at most: networks in half precision take half."""
    return classes * spec.window**2 * 4


def too_small(
    what: str, name: str, least: int, budget: MemoryBudget, hints: list[str]
) -> DeviceError:
    """Said before anything starts: the smallest budget that would do, and else."""
    asked = -(-least // (64 * MB)) * 64 * MB
    return DeviceError(
        f"{what} needs about {format_bytes(asked)} on {name}; the budget is "
        f"{format_bytes(budget.device_bytes)}.",
        f"Raise the memory budget to at least {format_bytes(asked)}, "
        + ", ".join([*hints[:-1], f"or {hints[-1]}"])
        + ".",
    )
