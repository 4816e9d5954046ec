"""Devices by name, numeric precision, and how much memory a run may take."""

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from napari_uhrseg.errors import DeviceError, TrainingError
from napari_uhrseg.units import MB


@dataclass(frozen=True, slots=True)
class Device:
    """One device: torch's name, the name people know, and its memory in bytes."""

    id: str
    name: str
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What a run may take.

    ``device_bytes``: on a GPU what the driver's tool shows for this process; on
    the CPU what the run adds to the process. ``host_bytes``: main memory for
    reading ahead and finished blocks.
    """

    device: str
    device_bytes: int
    host_bytes: int

    @classmethod
    def default(cls, device: str = "auto") -> "MemoryBudget":
        """Half of the device's memory, at most 8 GB; a quarter of the CPU's."""
        found = find_device(device)
        share = 4 if found.id == "cpu" else 2
        return cls(found.id, min(found.total_bytes // share, 8192 * MB), 1024 * MB)


def devices() -> list[Device]:
    """The devices torch can use here, fastest first; the CPU is always last."""
    found = [
        Device(f"cuda:{i}", p.name, p.total_memory)
        for i in range(torch.cuda.device_count())
        for p in [torch.cuda.get_device_properties(i)]
    ]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", _main_memory()))
    return [*found, Device("cpu", _cpu_name(), _main_memory())]


def find_device(name: str) -> Device:
    """The device of that name; ``auto`` is the fastest, ``cuda`` the first GPU.

    Raises
    ------
    DeviceError
        There is no such device; the hint lists those there are.
    """
    known = devices()
    if name == "auto":
        return known[0]
    for device in known:
        if device.id == name or device.id.partition(":")[0] == name:
            return device
    there = ", ".join(f"{d.id} ({d.name})" for d in known)
    raise DeviceError(f"There is no device {name!r} here.", f"Choose one of: {there}.")


def free_bytes(device: Device) -> int:
    """What this process could still take: others, and its limits, are counted.

    On a GPU with what it has taken already, as a budget there is of all it shows.
    """
    if device.id.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device.id)
        return int(free + torch.cuda.memory_reserved(device.id))
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # a container's own limit
    with suppress(OSError, ValueError):  # "max" where there is none
        most = int((group / "memory.max").read_text())
        stat = dict(x.split() for x in (group / "memory.stat").open())
        used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, most - used)
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            free = min(free, most - psutil.Process().memory_info().vms)
    return max(0, free)


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16", "fp16"], device: Device
) -> Literal["fp32", "bf16", "fp16"]:
    """The precision a run uses; ``auto`` is bf16 on devices made for it, else fp32.

    Those are GPUs from Ampere on, and CPUs with AMX or AVX512-BF16: there networks of
    the usual size take about a third of the time (tiny ones gain nothing), and 99.8 %
    of pixels keep their label (``docs/benchmarks.md``).
    """
    kind = device.id.partition(":")[0]
    if wanted == "auto":
        if kind == "cuda":
            fast = torch.cuda.get_device_capability(device.id) >= (8, 0)
        else:
            fast = kind == "cpu" and _cpu_has_bf16()
        return "bf16" if fast else "fp32"
    if wanted == "fp16" and kind == "cpu":
        raise DeviceError(
            "Half precision (fp16) is not made for the CPU.",
            "Choose auto, fp32 or bf16.",
        )
    return wanted


def training_precision(
    wanted: Literal["auto", "fp32", "bf16"], device: Device
) -> Literal["fp32", "bf16"]:
    """As `choose_precision`.

    The CPU learns in fp32 unless asked, also where it has bf16 units: with them the
    weights of a DeepLabV3+ became NaN in two of three trainings (torch 2.15, AMX).

    Raises
    ------
    TrainingError
        Half precision is asked for: it loses small gradients.
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
def running(device: torch.device, precision: str) -> Iterator[None]:
    """One forward pass at that precision.

    Never held across a ``yield`` of a generator: torch's modes belong to the
    thread, and would leak into the caller's code.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
    ):
        yield


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Torch with that many threads of the CPU; None: as it is.

    For all of a job, not only its forward passes: on two busy cores a team of two
    threads waits for each other at every one of the small steps that make labels.
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


def out_of_memory(error: BaseException) -> bool:
    """Whether torch failed for want of memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies in bf16, rather than imitating it slowly."""
    known: Callable[[], dict[str, object]]
    known = getattr(torch.cpu, "get_capabilities", dict)  # torch 2.6 has none
    return bool(known().get("avx512_bf16"))  # and with it AMX, where there is that


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "CPU"


def _main_memory() -> int:
    return int(psutil.virtual_memory().total)
