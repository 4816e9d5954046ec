"""Profiles of the time and peak memory of a forward pass on a device.

Results are cached on disk in the user's cache folder, one small file each. They are
valid until the network, the device, torch or this package changes.
"""

import ctypes
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import psutil
import torch
from torch import Tensor

from napari_uhrseg._version import __version__
from napari_uhrseg.atomic import replacing
from napari_uhrseg.engine.network.activation_memory import (
    Size,
    activation_bytes,
    zero_batch,
)
from napari_uhrseg.engine.network.device import (
    Device,
    cpu_threads,
    inference_mode,
    is_out_of_memory,
)
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.network.parallel_forward import ParallelForward
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.image.pyramid_cache import cache_folder
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import InputSpec, Precision

MOST = 2.0**50  # seconds and bytes of a pass; a damaged file may contain more
MAX_PROBE = 768  # side in pixels of the largest frame that is run for a profile


@dataclass(frozen=True, slots=True)
class ForwardProfile:
    """Cost of a forward pass.

    Attributes
    ----------
    seconds
        Elapsed time on a GPU, CPU time of a thread on a CPU.
    bytes
        Peak memory beyond weights and inputs.
    """

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Profiler:
    """Profiles of a checkpoint on a device, at a precision and a number of threads."""

    checkpoint: Checkpoint
    device: Device
    precision: Precision
    threads: int

    def batch(self, size: int) -> ForwardProfile:
        """Return the profile of a batch of ``size`` windows.

        Raises
        ------
        DeviceError
            If the device runs out of memory.
        """
        return self._measured(size, None)

    def frame(self, frame: Size, rows: int | None = None) -> ForwardProfile:
        """Return the profile of a frame, extrapolated from a part if it is large.

        Seconds scale with the area, bytes with the traced activation memory.

        Parameters
        ----------
        frame
            Height and width in pixels.
        rows
            Rows that are processed at a time. None: the whole frame.
        """
        probe = _probe(self.checkpoint.card.spec, frame)
        found = self._measured(1, probe)
        if probe == frame and rows is None:
            return found
        model = self.checkpoint.model
        area = frame[0] * frame[1] / (probe[0] * probe[1])
        grown = activation_bytes(model, frame, rows) / activation_bytes(model, probe)
        seen_twice = 1.0 if rows is None else 1.5
        return ForwardProfile(
            found.seconds * area * seen_twice, int(found.bytes * grown)
        )

    def _measured(self, size: int, frame: Size | None) -> ForwardProfile:
        file = cache_folder() / f"{self._key(size, frame)}.calibration.json"
        # missing or damaged; deeply nested JSON raises RecursionError
        with suppress(OSError, ValueError, TypeError, RecursionError):
            stored = ForwardProfile(**json.loads(file.read_text()))
            if 0 < stored.seconds < MOST and 0 < stored.bytes < MOST:
                return stored
        found = self._measure(size, frame)
        with suppress(OSError):  # the result is valid without the cache
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file, sync=False) as part:
                part.write_text(json.dumps(asdict(found)))
        return found

    def _key(self, size: int, frame: Size | None) -> str:
        values = (
            self.checkpoint.hash, self.device.id, self.device.name, self.precision,
            self.threads, size, frame, torch.__version__, __version__, "in parts",
        )  # fmt: skip
        return hashlib.sha256(repr(values).encode()).hexdigest()[:24]

    def _measure(self, size: int, frame: Size | None) -> ForwardProfile:
        """Run zeros twice: the first pass shows the memory, the second the speed."""
        model, device = self.checkpoint.model, torch.device(self.device.id)
        ready = optimized(model, self.precision)
        # CPU time, so that the load by other programs is not stored
        clock = time.thread_time if device.type == "cpu" else time.perf_counter
        took: list[float] = []

        def forward(batch: Batch) -> Tensor:
            start = clock()
            with inference_mode(device, self.precision):
                logits: Tensor = ready(batch)["logits"]
                logits.flatten()[0].item()  # waits for the device
            took.append(clock() - start)
            return logits

        windows = device.type == "cpu" and frame is None
        passes = ParallelForward(forward, size, self.threads if windows else 1)
        try:
            ready.to(device)
            batch = zero_batch(model.spec, size, frame, device)
            for views in batch.views.values():
                views.fill_(0)  # zeros that were never written occupy no memory
            with peak_memory(device) as most, cpu_threads(self.threads), passes:
                for _ in range(2):
                    took.clear()
                    passes.start(batch)()
                    seconds = max(took)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            what = "window" if frame is None else "frame"
            other = "" if self.device.id == "cpu" else ", or choose the CPU"
            raise DeviceError(
                f"{self.device.name} has too little memory left for "
                f"{f'{size} {what}s' if size > 1 else f'one {what}'}.",
                f"Close other programs that use it{other}.",
            ) from error
        # a process that ran the network before shows less growth
        live = activation_bytes(model, frame) * size
        inputs = sum(view.nbytes for view in batch.views.values())
        floor = (live - inputs) // (1 if self.precision == "fp32" else 2)
        return ForwardProfile(seconds, max(most[0], floor))


def _probe(spec: InputSpec, frame: Size) -> Size:
    """Return the size of the part of a frame that is run."""
    least = max(MAX_PROBE, spec.min_side)
    step = -(-least // spec.divisor) * spec.divisor
    return min(frame[0], step), min(frame[1], step)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Measure the peak memory that the body of the ``with`` statement adds, in bytes.

    On a GPU it is the memory that torch reserves, on the CPU the growth of the
    process. The list that is yielded has its value after the body.
    """
    measured = _peak_reserved(device) if device.type == "cuda" else _peak_resident()
    with measured as most:
        yield most


@contextmanager
def _peak_reserved(device: torch.device) -> Iterator[list[int]]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before, most = torch.cuda.memory_reserved(device), [0]
    yield most
    most[0] = torch.cuda.max_memory_reserved(device) - before


@contextmanager
def _peak_resident() -> Iterator[list[int]]:
    most = [0]
    release_memory()
    resident = psutil.Process().memory_info
    before, ended = resident().rss, threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            most[0] = max(most[0], resident().rss - before)

    watcher = threading.Thread(target=watch, name="uhrseg-memory", daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def release_memory() -> None:
    """Return unused memory to the system where the platform supports it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
