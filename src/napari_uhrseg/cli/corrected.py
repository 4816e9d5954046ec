"""What there is of corrections, shown; and regions of them confirmed or taken back."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import err, follow, json_line, out, stoppable
from napari_uhrseg.cli.options import parse_roi
from napari_uhrseg.types import Legend, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections, Direction
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import Region

Act = Literal["confirm", "revert"]
LONG = 20  # places that a table shows


def show_corrections(store: str, json: bool) -> None:
    """Corrected pixels by class, and the places; nothing is changed."""
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        LabelStore.open(store) as opened,
        Corrections.open(opened, write=False) as corrections,
    ):
        legend, counts, places = (
            opened.legend, corrections.counts(), corrections.corrected_regions()
        )  # fmt: skip
    if json:
        found = [{"roi": p.roi, "pixels": _named(p.pixels, legend)} for p in places]
        json_line(event="corrections", store=store, counts=_named(counts, legend),
                  places=found)  # fmt: skip
        return
    if not counts:
        out.print("Nothing is corrected.")
        return
    colors = {c.name: c.color for c in legend}
    shown = Table(title="Corrected", title_justify="left")
    shown.add_column("Class")
    shown.add_column("Pixels", justify="right")
    for name, pixels in _named(counts, legend).items():
        shown.add_row(Text("■ ", colors[name]) + Text(name, "none"), f"{pixels:,}")
    out.print(shown)
    table = Table(title="Places (y,x,height,width)", title_justify="left")
    table.add_column("Where", no_wrap=True)
    table.add_column("Pixels")
    for place in places[:LONG]:
        table.add_row(_text(place.roi), Text(_said(_named(place.pixels, legend))))
    out.print(table)
    if len(places) > LONG:
        out.print(f"And {len(places) - LONG} smaller ones; --json lists them all.")


def change_regions(store: str, act: Act, where: str, json: bool) -> None:
    """Confirm or revert a rectangle, or the polygons of a file."""
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        stoppable("What is done is kept; the same command goes on.") as watched,
        LabelStore.open(store) as opened,
        Corrections.open(opened) as corrections,
    ):
        regions = _regions(where, opened)
        before = corrections.counts()
        title = "Confirming" if act == "confirm" else "Reverting"
        follow(watched(_each(corrections, act, regions)), title, json)
        changed = _changed(before, corrections.counts(), opened.legend)
    if json:
        json_line(event=f"{act}ed", store=store, regions=len(regions), changed=changed)
        return
    done = "Confirmed" if act == "confirm" else "Reverted"
    out.print(Text(f"{done}: {_said(changed, sign=True)}."), soft_wrap=True)


def turn_back(store: str, way: "Direction", json: bool) -> None:
    """Undo or redo the last change, of whichever session; whole, or not at all."""
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        stoppable(
            f"The {way} is made whole, or not at all: the same command without options "
            "says what is corrected.",
            gently=True,
        ) as watched,
        LabelStore.open(store) as opened,
        Corrections.open(opened) as corrections,
    ):
        roi, before = corrections.next_bounds(way), corrections.counts()
        parts = corrections.undo_or_redo(way)
        try:
            follow(watched(parts), way.title(), json)
        finally:
            parts.close()  # type: ignore[attr-defined] # a generator, though only said to iterate
        changed = _changed(before, corrections.counts(), opened.legend)
        more = corrections.can_undo if way == "undo" else corrections.can_redo
    if json:
        json_line(event=way, store=store, roi=roi, changed=changed, more=more)
    elif roi is None:
        err.print(f"There is nothing to {way}.")
    else:
        done = "Taken back" if way == "undo" else "Done again"
        line = f"{done}, at {_text(roi)}: {_said(changed, sign=True)}."
        out.print(Text(line), soft_wrap=True)
        if not more:
            out.print(f"There is no more to {way}.")


def _regions(where: str, store: "LabelStore") -> "list[Region]":
    """A rectangle written out, else the polygons of a GeoJSON file."""
    if re.fullmatch(r"[-\d,\s]*", where):
        return [parse_roi(where)]
    from napari_uhrseg.io.corrections.geojson_import import read_polygons

    return [polygon for polygon, _ in read_polygons(Path(where), store)]


def _each(
    corrections: "Corrections", act: Act, regions: "list[Region]"
) -> Iterator[float]:
    """One region after the other; the share of all."""
    change = corrections.confirm if act == "confirm" else corrections.revert
    for number, region in enumerate(regions):
        for share in change(region):
            yield (number + share) / len(regions)


def _named(pixels: Mapping[int, int], legend: Legend) -> dict[str, int]:
    return {c.name: pixels[c.id] for c in legend if pixels.get(c.id)}


def _changed(
    before: Mapping[int, int], after: Mapping[int, int], legend: Legend
) -> dict[str, int]:
    """How many corrected pixels of each class there are more, or fewer."""
    ids = before.keys() | after.keys()
    more = {i: after.get(i, 0) - before.get(i, 0) for i in ids}
    return _named(more, legend)


def _said(pixels: Mapping[str, int], *, sign: bool = False) -> str:
    form = "+," if sign else ","
    said = (f"{name} {count:{form}} px" for name, count in pixels.items())
    return ", ".join(said) or "no pixel changed"


def _text(roi: Roi) -> str:
    return f"{roi.y},{roi.x},{roi.height},{roi.width}"
