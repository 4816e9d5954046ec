"""Options that more than one command takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_uhrseg.types import Roi
from napari_uhrseg.units import parse_bytes

if TYPE_CHECKING:
    from napari_uhrseg.engine.network.device import MemoryBudget

Precision = Literal["auto", "fp32", "bf16", "fp16"]

CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", help="The model: a .safetensors file.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision", help="auto: bf16 where the device is made for it, else fp32."
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory-budget",
        help="What the run may take on the device, such as 2GB or 800MB.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        help="Run on a cluster of dask.distributed: its scheduler's address. Workers "
        "must see image, checkpoint and output at the same paths.",
        metavar="TCP://HOST:PORT",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Run on this many processes of this machine, with a GPU each where there "
        "are GPUs.",
        min=1,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Only JSON, one object a line, on stdout.")
]


def parse_roi(text: str) -> Roi:
    """``"y,x,h,w"`` in level-0 pixels."""
    try:
        y, x, height, width = (int(part) for part in text.split(","))
        roi = Roi(y, x, height, width)
    except ValueError:
        roi = Roi(0, 0, 0, 0)
    if not roi.area:
        raise typer.BadParameter(
            f"{text!r} is no rectangle. Write y,x,height,width in pixels, "
            "such as 1000,2000,512,512."
        )
    return roi


def parse_numbers(text: str) -> tuple[int, ...]:
    """``"0,1,2"``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write numbers such as 0,1,2.") from None


def make_budget(device: str, text: str | None) -> "MemoryBudget":
    """The device's default budget, or as much of it as was asked for."""
    from dataclasses import replace

    from napari_uhrseg.engine.network.device import MemoryBudget

    default = MemoryBudget.default(device)
    return default if text is None else replace(default, device_bytes=parse_bytes(text))
