"""Devices, numeric precision, and memory budgets."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from napari_uhrseg.errors import DeviceError, TrainingError
from napari_uhrseg.main_memory import free_main_memory
from napari_uhrseg.types import Precision
from napari_uhrseg.units import MB


@dataclass(frozen=True, slots=True)
class Device:
    """A device: torch's id, its product name, and its memory in bytes."""

    id: str
    name: str
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Upper bounds of the memory of a run.

    Attributes
    ----------
    device
        Id of the device, such as ``"cpu"`` or ``"cuda:0"``.
    device_bytes
        On a GPU, the memory of this process in the driver's tool. On the CPU, the
        memory that the run adds to the process.
    host_bytes
        Main memory for read-ahead and finished blocks.
    """

    device: str
    device_bytes: int
    host_bytes: int

    @classmethod
    def default(cls, device: str = "auto") -> "MemoryBudget":
        """Return half of a GPU's memory or a quarter of the CPU's, at most 8 GB."""
        found = find_device(device)
        share = 4 if found.id == "cpu" else 2
        return cls(found.id, min(found.total_bytes // share, 8192 * MB), 1024 * MB)


def devices() -> list[Device]:
    """Return the devices that torch can use, fastest first and the CPU last."""
    found = [
        Device(f"cuda:{i}", p.name, p.total_memory)
        for i in range(torch.cuda.device_count())
        for p in [torch.cuda.get_device_properties(i)]
    ]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", _main_memory()))
    return [*found, Device("cpu", _cpu_name(), _main_memory())]


def find_device(name: str) -> Device:
    """Return the device of that name. ``auto`` is the fastest, ``cuda`` the first GPU.

    Raises
    ------
    DeviceError
        If there is no such device. The hint lists the available ones.
    """
    known = devices()
    if name == "auto":
        return known[0]
    for device in known:
        if device.id == name or device.id.partition(":")[0] == name:
            return device
    available = ", ".join(f"{d.id} ({d.name})" for d in known)
    raise DeviceError(f"There is no device {name!r}.", f"Choose one of: {available}.")


def free_memory(device: Device) -> int:
    """Return the bytes that this process can use on a device.

    Memory of other programs and the process's own limits are subtracted. On a GPU,
    memory that this process has reserved counts as free, because a budget covers all
    of it.
    """
    if device.id.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device.id)
        return int(free + torch.cuda.memory_reserved(device.id))
    return free_main_memory()


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16", "fp16"], device: Device
) -> Precision:
    """Return the precision of a run. ``auto`` is bf16 where it is supported, else fp32.

    GPUs since Ampere and CPUs with AMX or AVX512-BF16 support bf16. Networks of the
    usual size take about a third of the time there, and 99.8 % of pixels keep their
    label (``docs/benchmarks.md``). Very small networks gain nothing.

    Raises
    ------
    DeviceError
        If fp16 is requested for the CPU.
    """
    kind = device.id.partition(":")[0]
    if wanted == "auto":
        return "bf16" if _is_made_for_bf16(device.id, kind) else "fp32"
    if wanted == "fp16" and kind == "cpu":
        raise DeviceError(
            "The CPU does not support half precision (fp16).",
            "Choose auto, fp32 or bf16.",
        )
    return wanted


def training_precision(
    wanted: Literal["auto", "fp32", "bf16"], device: Device
) -> Literal["fp32", "bf16"]:
    """Return the precision of a training.

    It is that of `choose_precision`, but ``auto`` is fp32 on each CPU. With bf16 units,
    the weights of a DeepLabV3+ became NaN in two of three trainings (torch 2.15, AMX).

    Raises
    ------
    TrainingError
        If fp16 is requested, because it loses small gradients.
    """
    if wanted == "auto" and device.id == "cpu":
        return "fp32"
    found = choose_precision(wanted, device)
    if found == "fp16":
        raise TrainingError(
            "Training in half precision (fp16) loses small gradients.",
            "Choose auto, fp32 or bf16.",
        )
    return found


@contextmanager
def inference_mode(device: torch.device, precision: str) -> Iterator[None]:
    """Run one forward pass without gradients, at that precision.

    Do not keep it open across a ``yield`` of a generator: torch's modes belong to the
    thread and would leak into the caller's code.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
    ):
        yield


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Set torch's number of CPU threads. None: leave it unchanged.

    It applies to a whole run, not only to its forward passes: on two busy cores, two
    threads would wait for each other at each of the small steps of merging.
    """
    before = torch.get_num_threads()
    if count is None:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def _is_made_for_bf16(device: str, kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return kind == "cpu" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies in bf16, rather than emulating it slowly."""
    known: Callable[[], dict[str, object]]
    known = getattr(torch.cpu, "get_capabilities", dict)  # torch 2.6 has none
    return bool(known().get("avx512_bf16"))  # and AMX, if the CPU has it


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "CPU"


def _main_memory() -> int:
    return int(psutil.virtual_memory().total)
