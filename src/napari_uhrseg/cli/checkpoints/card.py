"""``napari-uhrseg card``: describe an ONNX network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uhrseg.cli.console import json_line, out
from napari_uhrseg.cli.info import show_card
from napari_uhrseg.cli.shared_options import (
    ClassesFileOption,
    JsonOption,
    expand_options,
    parse_range,
)
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.types import PER_BAND

if TYPE_CHECKING:
    from napari_uhrseg.models.onnx.description import NetworkDescription
    from napari_uhrseg.types import Legend


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a list of numbers. Write, for example, 0.485,0.456,0.406."
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """Input of a network."""

    window: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the input in pixels, if it is not fixed."),
    ] = None
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Overlap of neighbouring windows in pixels. Default: an eighth of the "
            "window.",
        ),
    ] = None
    pixel_size: Annotated[
        float | None,
        typer.Option(
            min=0, help="Size of a pixel of the training images in metres, above 0."
        ),
    ] = None
    value_range: Annotated[
        str | None,
        typer.Option(
            help="Image values that become 0 and 1, such as 0,255. Default: those of "
            "each image.",
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(help="Mean of each band, from 0 to 1. Default: 0 for each."),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation of each band. Default: 1 for each."),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Values of the network below it do not count. Default: 0.5 for one "
            "output, none for several."
        ),
    ] = None

    def added_to(self, known: "NetworkDescription") -> "NetworkDescription":
        """Return a description with the given options in the place of its values."""
        values = parse_range(self.value_range) if self.value_range else None
        if values == PER_BAND:
            raise typer.BadParameter("The value range of a network is two numbers.")
        chosen = {
            "window": self.window,
            "overlap": self.overlap,
            "pixel_size": self.pixel_size,
            "value_range": values,
            "mean": _numbers(self.mean) if self.mean else None,
            "std": _numbers(self.std) if self.std else None,
            "threshold": self.threshold,
        }
        given = {k: v for k, v in chosen.items() if v is not None}
        return replace(known, **given)  # type: ignore[arg-type]


@expand_options
def card(
    file: Annotated[Path, typer.Argument(help="ONNX network (.onnx).")],
    classes: ClassesFileOption = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="Names of the classes in the order of the outputs, separated by "
            "commas."
        ),
    ] = None,
    *,
    options: InputOptions,
    json: JsonOption = False,
) -> None:
    """Describe an ONNX network once: its classes and its input.

    The card is written beside the network, as NAME.card.json. It contains the metadata
    of the network, and the options in their place. Without names, classes are numbered.
    """
    from napari_uhrseg.models.onnx import card as cards
    from napari_uhrseg.models.onnx.description import deepness_description
    from napari_uhrseg.models.onnx.graph import read_graph

    if not cards.is_onnx(file):
        raise CheckpointError(
            f"{file.name} is no ONNX network.", "Choose a file that ends in .onnx."
        )
    graph = read_graph(file)
    known = deepness_description(file, graph)
    legend = _legend(classes, names) or known.legend or cards.default_legend(graph)
    described = options.added_to(replace(known, legend=legend))
    written = cards.write_card(file, described)
    if json:
        json_line(event="saved", path=cards.card_path(file), **written.to_dict())
        return
    show_card(written)
    out.print(f"Card: {cards.card_path(file)}", highlight=False, soft_wrap=True)


def _legend(file: Path | None, names: str | None) -> "Legend | None":
    """Return the classes of a file or of a list of names; None without both."""
    from napari_uhrseg.models.onnx.description import named_legend

    if file is not None and names is not None:
        raise typer.BadParameter("Give either --classes or --names.")
    if names is not None:
        try:
            return named_legend(tuple(name.strip() for name in names.split(",")))
        except ValueError as error:
            raise typer.BadParameter(f"{error}.") from None
    if file is None:
        return None
    from napari_uhrseg.engine.data.mask_legend import read_classes

    return read_classes(file)
