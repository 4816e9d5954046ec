"""Estimate of the memory of a run from its parts, and comparison with the budget."""

from dataclasses import dataclass

from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.types import SOFTMAX_ROWS, InputSpec, Limits
from napari_uhrseg.units import MB, format_bytes

CUDA_CONTEXT_BYTES = 600 * MB  # what the driver shows before the first tensor
PROGRAM_BYTES = 96 * MB  # libraries that the run loads, threads, buffers of the store
ALLOCATOR_SLACK = 1.1  # what allocators reserve over what was requested
READ_PIXELS = Limits().read_pixels  # that are resampled at a time
CHUNK_CACHE_BYTES = 256 * MB, 32 * MB  # decoded chunks of the image: most and least


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory need in bytes, on the device and in main memory (the same on the CPU)."""

    device: int
    host: int

    def within(self, budget: MemoryBudget) -> bool:
        """Return whether the budget covers both amounts."""
        if budget.device == "cpu":
            return self.device + self.host <= budget.device_bytes
        return self.device <= budget.device_bytes and self.host <= budget.host_bytes

    def on(self, device: str) -> int:
        """Return the smallest budget in bytes for the device with that id."""
        return self.device + self.host if device == "cpu" else self.device


@dataclass(frozen=True, slots=True)
class RunShape:
    """Division of a run, limited to values that affect memory.

    Attributes
    ----------
    ahead
        Batches or frames that are read before they are needed.
    cache
        Bytes of decoded image chunks that are cached.
    input_pixels
        Pixels of the network's input for one window or frame, in all views.
    value_bytes
        Bytes of a value in the data type of the image.
    side
        Side of a block, or of a frame, in run pixels.
    stored
        Side of a block, or of a frame, in level-0 pixels.
    batch
        Windows per forward pass.
    merged
        Run pixels whose logits are merged on the device. 0 for frames: their logits
        belong to the forward pass, and their borders are on disk.
    waiting_batches
        On a CPU, batches whose logits and their parts exist while another one runs.
    kept
        Windows whose logits wait for their next block.
    readers
        Threads that read the windows of a batch.
    """

    ahead: int
    cache: int
    input_pixels: int
    value_bytes: int
    side: float
    stored: float
    batch: int = 1
    merged: float = 0
    waiting_batches: int = 0
    kept: int = 0
    readers: int = 1


def estimate_memory(
    weights: int,
    spec: InputSpec,
    classes: int,
    forward: int,
    shape: RunShape,
    device: str,
) -> MemoryNeed:
    """Return an upper bound of the memory of a run.

    Parameters
    ----------
    weights
        Bytes of the network's weights as prepared for inference.
    spec
        Input specification of the network.
    classes
        Number of classes.
    forward
        Bytes of one forward pass beyond weights and inputs, as profiled.
    shape
        Division of the run.
    device
        Id of the device, such as ``"cpu"`` or ``"cuda:0"``.
    """
    on_cpu = device == "cpu"
    pixels = shape.batch * shape.input_pixels
    inputs = pixels * spec.channels * 4
    read = pixels * pixel_bytes(spec, shape.value_bytes)
    batches = shape.ahead + 2 if shape.ahead else 1
    merged = shape.merged * (classes + 1) * 4
    if on_cpu and shape.waiting_batches:
        merged += shape.waiting_batches * shape.batch * window_bytes(spec, classes)
        batches += shape.waiting_batches - 1
    softmax = shape.side * SOFTMAX_ROWS * (4 * classes + 4) * 4
    working = forward + merged + softmax
    # label and confidence, a byte each: of the block being merged, of one being
    # written, and as much again twice for copies: class ids, level-0 pixels, coarser
    # levels, chunks being encoded
    host = PROGRAM_BYTES + shape.cache + 12 * shape.stored**2
    host += shape.kept * window_bytes(spec, classes) * ALLOCATOR_SLACK
    host += batches * read + inputs
    host += shape.input_pixels * spec.channels * 2  # one that is being decoded
    # each further one: pixels of a level up to four times as fine are resampled
    source = min(16 * shape.input_pixels, READ_PIXELS)
    host += (shape.readers - 1) * source * spec.channels * shape.value_bytes
    if on_cpu:
        return MemoryNeed(int(weights + working * ALLOCATOR_SLACK), int(host))
    on_device = (
        CUDA_CONTEXT_BYTES + weights + (working + inputs + read) * ALLOCATOR_SLACK
    )
    return MemoryNeed(int(on_device), int(host))


def pixel_bytes(spec: InputSpec, value_bytes: int) -> int:
    """Return the bytes of a pixel that is read: its values, and whether it is valid.

    Values of types that float32 cannot hold are read as float32.
    """
    return spec.channels * min(value_bytes, 4) + 1


def window_bytes(spec: InputSpec, classes: int) -> int:
    """Return the bytes of a window's float32 logits. Half precision takes half."""
    return classes * spec.window**2 * 4


def budget_too_small_error(
    what: str, name: str, least: int, budget: MemoryBudget, hints: list[str]
) -> DeviceError:
    """Return the error that names the smallest sufficient budget.

    Parameters
    ----------
    what
        Subject that needs the memory, such as ``"One window"``.
    name
        Name of the device.
    least
        The smallest sufficient budget in bytes.
    budget
        The budget that is too small.
    hints
        Alternatives to a larger budget, as parts of a sentence.
    """
    asked = -(-least // (64 * MB)) * 64 * MB
    others = ", ".join([*hints[:-1], f"or {hints[-1]}"])
    return DeviceError(
        f"{what} needs about {format_bytes(asked)} on {name}; the budget is "
        f"{format_bytes(budget.device_bytes)}.",
        f"Raise the memory budget to at least {format_bytes(asked)}, {others}.",
    )
