"""``napari-uhrseg info``: show the facts of an image or a checkpoint."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import json_line, out, warn
from napari_uhrseg.cli.shared_options import JsonOption
from napari_uhrseg.errors import without_credentials
from napari_uhrseg.io.image.geometry import (
    describe_position,
    epsg_code,
    extent,
    rotation,
)
from napari_uhrseg.models.importers import PICKLES
from napari_uhrseg.units import format_bytes, format_length

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.types import Card, InputSpec

CHECKPOINTS = (".safetensors", ".onnx", *PICKLES)
SMALL_SIDE = 512  # pixels; a smaller image needs no tiles


def info(
    file: Annotated[
        str,
        typer.Argument(help="Image or its URL, or a checkpoint (.safetensors, .onnx)."),
    ],
    series: Annotated[
        int | None,
        typer.Option(min=0, help="Number of the image in a file of several images."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show information about an image or a checkpoint without reading it all."""
    if Path(file).suffix.lower() in CHECKPOINTS:
        _print_card(file, json)
        return
    from napari_uhrseg.io.open import open_image

    image = open_image(file, series=series)
    facts = image_record(image) if json else image_facts(image)
    if json:
        json_line(file=without_credentials(file), **facts)
        return
    _show(facts)
    for text in image.warnings:
        warn(text)


def _print_card(file: str, json: bool) -> None:
    from napari_uhrseg.models.card_header import read_card

    card = read_card(Path(file))
    if json:
        json_line(file=file, **card.to_dict())
    else:
        show_card(card)


def show_card(card: "Card") -> None:
    """Print the fields of a card that are not empty."""
    _show(card_facts(card))


def image_record(image: "Image") -> dict[str, Any]:
    """Return an image's facts for JSON: shapes in pixels, sizes in ``unit``."""
    return {
        "name": image.name,
        "shape": image.shape,
        "dtype": str(image.dtype),
        "rgb": image.rgb,
        "slide": image.is_slide,
        "bands": image.bands,
        "levels": [level.shape for level in image.levels],
        "downsamples": image.downsamples,
        "overviews": [_origin(source) for source in image.sources[1:]],
        "tiled": _is_tiled(image),
        "axes": image.axes,
        "planes": image.planes,
        "pixel_size": image.pixel_size,
        "unit": image.unit,
        "meters_per_pixel": image.meters_per_pixel,
        "crs": image.crs,
        "epsg": epsg_code(image.crs),
        "affine": image.affine,
        "extent": extent(image),
        "rotation": rotation(image),
        "series": image.series,
        "series_number": image.series_number,
        "warnings": image.warnings,
        "color_table": image.colormap is not None,
        "fingerprint": image.fingerprint,
    }


def image_facts(image: "Image") -> dict[str, str]:
    """Return the facts that an image has as texts."""
    height, width = image.shape
    values = height * width * (3 if image.rgb else len(image.bands))
    size = image.meters_per_pixel
    facts = {
        "Image": image.name,
        "Size": f"{width:,} x {height:,} pixels, {image.dtype}, "
        f"{format_bytes(values * image.dtype.itemsize)} uncompressed",
        "Bands": _bands(image),
        "Overviews": _overviews(image),
        "Pixel size": "unknown" if size is None else format_length(size),
    }
    return facts | _unusual_facts(image)


def _unusual_facts(image: "Image") -> dict[str, str]:
    """Return the facts that only some images have."""
    facts = {}
    if not _is_tiled(image):
        facts["Tiles"] = "none: the file is not tiled"
    if len(image.series) > 1:
        names = ", ".join(f"{i}: {name}" for i, name in enumerate(image.series))
        facts["Images"] = f"{names} (shown: {image.series_number})"
    if image.is_slide:
        facts["Kind"] = "slide: blocks without tissue are skipped"
    if image.planes:
        facts["Planes"] = ", ".join(f"{k}: {n}" for k, n in image.planes.items())
    facts |= describe_position(image)
    if image.colormap is not None:
        facts["Colour table"] = f"{len(image.colormap)} values"
    return facts


def _origin(source: Any) -> str:
    """Return where the pixels of an overview come from."""
    from napari_uhrseg.io.image.geometry import is_real
    from napari_uhrseg.io.image.pending_level import PendingLevel

    if is_real(source):
        return "file"
    if isinstance(source, PendingLevel):
        return "cache" if source.complete else "not computed yet"
    return "computed when displayed"


def _overviews(image: "Image") -> str:
    pairs = zip(image.downsamples[1:], image.sources[1:], strict=True)
    texts = [(f"1/{d:g}", _origin(source)) for d, source in pairs]
    groups = itertools.groupby(texts, lambda pair: pair[1])
    return (
        "; ".join(
            ", ".join(scale for scale, _ in group)
            + ("" if origin == "file" else f" (not in the file: {origin})")
            for origin, group in groups
        )
        or "none"
    )


def _is_tiled(image: "Image") -> bool:
    """Return False for a file in strips as wide as the image, or decoded as a whole."""
    from napari_uhrseg.io.image.pending_level import PendingLevel

    first = image.sources[0]
    if isinstance(first, PendingLevel):
        return first.untiled_source is None
    chunk = [first.chunks[image.source_axes.index(a)] for a in "yx"]
    return chunk[1] < image.shape[1] or max(image.shape) <= SMALL_SIDE


def _bands(image: "Image") -> str:
    """Return the bands; of an RGB image of more bands, all of them."""
    if not image.rgb:
        return "; ".join(_band(b) for b in image.bands)
    if len(image.bands) <= 3:
        values = {b.nodata for b in image.bands if b.nodata is not None}
        known = ", ".join(f"{v:g}" for v in sorted(values))
        return f"RGB (nodata {known})" if known else "RGB"
    names = ", ".join(_band(b) for b in image.bands)
    return f"{len(image.bands)} bands: {names} (displayed as RGB)"


def _band(band: Any) -> str:
    nodata = "" if band.nodata is None else f" (nodata {band.nodata:g})"
    return f"{band.name}{nodata}"


def _input_text(spec: "InputSpec") -> str:
    sides = f"windows of {spec.window}"
    if spec.frame is not None:
        sides = f"frames up to {spec.frame}"
    views = ", ".join(f"{k} {v}" for k, v in spec.views.items())
    return f"{sides} pixels; views {views}"


def card_facts(card: "Card") -> dict[str, str]:
    """Return the fields of a card that are not empty as texts."""
    spec = card.spec
    size = spec.pixel_size
    facts = {
        "Checkpoint": card.name,
        "Model": card.model,
        "Arguments": _pairs(card.arguments),
        "Input": _input_text(spec),
        "Pixel size": "any" if size is None else format_length(size),
        "Bands": str(spec.channels),
        "Value range": spec.describe_values(),
        "Classes": ", ".join(c.name for c in card.legend),
        "Metrics": _pairs(card.metrics),
        "Trained on": card.trained_on,
        "Encoder weights": card.encoder_weights,
        "Augmentation": card.augmentations,
        "Limitations": card.limitations,
        "Parent": card.parent or "",
        "Source": card.source,
        "Licence": card.licence,
        "Citation": card.citation,
        "Command": card.command,
    }
    return {key: value for key, value in facts.items() if value}


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in values.items()
    )


def _show(facts: Mapping[str, str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, Text(value))
    out.print(table)
