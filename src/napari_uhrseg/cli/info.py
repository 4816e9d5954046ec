"""``napari-uhrseg info``: show the facts of an image or a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import json_line, out
from napari_uhrseg.cli.options import JsonOption
from napari_uhrseg.models.importers import PICKLES
from napari_uhrseg.units import format_bytes, format_length

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.types import Card


def info(
    file: Annotated[
        str,
        typer.Argument(help="Image or its URL, or a checkpoint (.safetensors)."),
    ],
    json: JsonOption = False,
) -> None:
    """Show information about an image or a checkpoint without reading it all."""
    if Path(file).suffix.lower() in (".safetensors", *PICKLES):
        from napari_uhrseg.models.card_header import read_card

        card = read_card(Path(file))
        if json:
            json_line(file=file, **card.to_dict())
        else:
            _show(card_facts(card))
        return
    from napari_uhrseg.io.open import open_image

    image = open_image(file)
    if json:
        json_line(file=file, **image_record(image))
    else:
        _show(image_facts(image))


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
        "axes": image.axes,
        "planes": image.planes,
        "pixel_size": image.pixel_size,
        "unit": image.unit,
        "meters_per_pixel": image.meters_per_pixel,
        "crs": image.crs,
        "affine": image.affine,
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
        "Overviews": ", ".join(f"1/{d:g}" for d in image.downsamples[1:]) or "none",
        "Pixel size": "unknown" if size is None else format_length(size),
    }
    if image.is_slide:
        facts["Kind"] = "slide: blocks without tissue are skipped"
    if image.planes:
        facts["Planes"] = ", ".join(f"{k}: {n}" for k, n in image.planes.items())
    if image.crs:
        facts["Coordinates"] = image.crs.split('"')[1] if '"' in image.crs else "yes"
    if image.colormap is not None:
        facts["Colour table"] = f"{len(image.colormap)} values"
    return facts


def _bands(image: "Image") -> str:
    """Return the bands; of an RGB image of more bands, all of them."""
    if not image.rgb:
        return "; ".join(_band(b) for b in image.bands)
    if len(image.bands) <= 3:
        return "RGB"
    names = ", ".join(_band(b) for b in image.bands)
    return f"{len(image.bands)} bands: {names} (displayed as RGB)"


def _band(band: Any) -> str:
    nodata = "" if band.nodata is None else f" (nodata {band.nodata:g})"
    return f"{band.name}{nodata}"


def card_facts(card: "Card") -> dict[str, str]:
    """Return the fields of a card that are not empty as texts."""
    spec = card.spec
    size = spec.pixel_size
    facts = {
        "Checkpoint": card.name,
        "Model": card.model,
        "Arguments": _pairs(card.arguments),
        "Input": (
            f"windows of {spec.window}"
            if spec.frame is None
            else f"frames up to {spec.frame}"
        )
        + " pixels; views "
        + ", ".join(f"{k} {v}" for k, v in spec.views.items()),
        "Pixel size": "any" if size is None else format_length(size),
        "Bands": str(spec.channels),
        "Classes": ", ".join(c.name for c in card.legend),
        "Metrics": _pairs(card.metrics),
        "Trained on": card.trained_on,
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
