"""Options that more than one command takes, and their expansion into signatures.

A command takes a dataclass such as :class:`TrainingHardware` as one parameter. The
decorator :func:`expand_options` replaces it by one option for each of its fields.
"""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.types import PER_BAND, AreaSize, PerBand, Roi, ValueRange
from napari_uhrseg.units import parse_bytes, quoted

if TYPE_CHECKING:
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.io.corrections.region_text import MapRectangle

RECTANGLE = "Y,X,HEIGHT,WIDTH"
MAP_RECTANGLE = "map:LEFT,BOTTOM,RIGHT,TOP"
REGION = f"{RECTANGLE}|{MAP_RECTANGLE}|FILE"

CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", help="Checkpoint file (.safetensors, .onnx).")
]
OutputCheckpointOption = Annotated[
    Path, typer.Option("--output", help="Checkpoint file to write (.safetensors).")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and the time of the training, and end. Nothing is "
        "written.",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing output.")
]

ClassesFileOption = Annotated[
    Path | None,
    typer.Option(help="Text file with one line for each class: VALUE NAME #rrggbb."),
]
IgnoreOption = Annotated[
    list[int] | None,
    typer.Option(
        help="Mask value without a class. May be repeated. Default: 255, but not in "
        "masks in colour, in masks of only 0 and 255, and if a class has this value."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per line on stdout.")
]
OverlapOption = Annotated[
    int | None,
    typer.Option(help="Overlap of neighbouring windows in pixels.", min=0),
]
StoreArgument = Annotated[
    str,
    typer.Argument(metavar="STORE", help="Label store: an OME-Zarr folder or its URL."),
]


def one_of(names: Iterable[str]) -> Callable[[str | None], str | None]:
    """Return a callback of an option that accepts only these names, in any case."""
    known = tuple(names)

    def check(name: str | None) -> str | None:
        if name is None:
            return None
        found = next((k for k in known if k.lower() == name.lower()), None)
        if found is None:
            raise typer.BadParameter(f"{name!r} is not one of {quoted(known)}.")
        return found

    return check


def check_memory(text: str | None) -> str | None:
    """Return an amount of memory as it is, if it is one."""
    if text is not None:
        try:
            parse_bytes(text)
        except UhrSegError as error:
            raise typer.BadParameter(str(error)) from error
    return text


def check_area(text: str | None) -> str | None:
    """Return an area as it is, if it is one, such as ``50 um2``."""
    if text is not None:
        try:
            AreaSize.parse(text)
        except UhrSegError as error:
            raise typer.BadParameter(str(error)) from error
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Device and memory of a command that runs a network."""

    memory_budget: Annotated[
        str | None,
        typer.Option(
            help="Memory limit on the device, for example 2GB or 800MB.",
            callback=check_memory,
        ),
    ] = None
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")
    ] = "auto"

    def budget(self) -> "MemoryBudget":
        """Return the memory budget of the device, limited to ``memory_budget``."""
        from dataclasses import replace

        from napari_uhrseg.engine.network.device import MemoryBudget

        default = MemoryBudget.default(self.device)
        if self.memory_budget is None:
            return default
        return replace(default, device_bytes=parse_bytes(self.memory_budget))


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceHardware(Hardware):
    """Device, memory and precision of inference."""

    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="Numeric precision. auto: bf16 if fast on the device."),
    ] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHardware(Hardware):
    """Device, memory and precision of training."""

    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="Numeric precision. auto: bf16 if fast on the device."),
    ] = "auto"


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each dataclass parameter of a command by an option for each field."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }
    parameters = [
        expanded
        for parameter in signature.parameters.values()
        for expanded in _expand(parameter)
    ]

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            chosen = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**chosen)
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # read by inspect
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _expand(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = parameter.annotation
    if not is_dataclass(group):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=hints[field.name],
        )


def _default(field: "Field[Any]") -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


def parse_region_option(text: str) -> "Roi | MapRectangle | Path":
    """Return the region of an option, see `region_text.parse_region`.

    Raises
    ------
    typer.BadParameter
        If the text is neither a rectangle nor the path of a file.
    """
    from napari_uhrseg.io.corrections.region_text import parse_region

    try:
        found = parse_region(text)
    except ValueError:
        found = None
    if found is None or (isinstance(found, Path) and not found.exists()):
        raise typer.BadParameter(
            f"{text!r} is not a valid rectangle, and no such file exists. Write "
            f"{RECTANGLE} in pixels, for example 1000,2000,512,512, or "
            f"{MAP_RECTANGLE} in map coordinates, or a file of polygons."
        )
    return found


def format_rectangle(roi: Roi) -> str:
    """Return the text that :func:`parse_region_option` reads."""
    return f"{roi.y},{roi.x},{roi.height},{roi.width}"


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers of a text such as ``"0,1,2"``.

    Raises
    ------
    typer.BadParameter
        If a part of the text is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a list of numbers. Write, for example, 0,1,2."
        ) from None


def parse_range(text: str) -> ValueRange | PerBand:
    """Return the numbers of a text such as ``"0,4095"``, or ``PER_BAND``.

    Raises
    ------
    typer.BadParameter
        If a range is empty or incomplete.
    """
    if text == PER_BAND:
        return PER_BAND
    try:
        values = tuple(float(part) for part in text.split(","))
        spans = [
            high - low for low, high in zip(values[::2], values[1::2], strict=True)
        ]
    except ValueError:
        spans = [0.0]
    if not all(span and math.isfinite(span) for span in spans):
        raise typer.BadParameter(
            f"{text!r} is not a range. Write two different numbers, for example "
            f"0,4095, two for each band, or {PER_BAND}."
        )
    return values


def parse_arguments(
    pairs: list[str], architecture: str | None, encoder: str | None
) -> dict[str, Any]:
    """Return the arguments of a model's constructor.

    Parameters
    ----------
    pairs
        Texts ``name=value``. A value is JSON, otherwise text.
    architecture, encoder
        Values of these two arguments; ``None`` leaves them out.

    Raises
    ------
    typer.BadParameter
        If a text has no equals sign.
    """
    found = dict(map(_parse_argument, pairs))
    chosen = {"architecture": architecture, "encoder": encoder}
    return found | {k: v for k, v in chosen.items() if v is not None}


def _parse_argument(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise typer.BadParameter(
            f"{pair!r} has no value. Write name=value, for example window=256."
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
