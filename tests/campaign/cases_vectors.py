"""Cases after reports against QuPath."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campaign.report import case
from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.polygon_import import read_polygons
from napari_uhrseg.io.export import export
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi

SQUARE = [[10, 20], [60, 20], [60, 50], [10, 50], [10, 20]]
INNER = [[20, 30], [40, 30], [40, 40], [20, 40], [20, 30]]


def feature(kind: str, coordinates: Any, **properties: Any) -> dict:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def filled(folder: Path, document: Any, class_id: int = 1) -> np.ndarray:
    """Return the corrections after the polygons of a document were filled."""
    path = folder / "a.geojson"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    with LabelStore.create(None, FakeImage((100, 120)), LEGEND) as store:
        with Corrections.open(store) as painting:
            pairs = [(p, class_id) for p, _ in read_polygons(path, store)]
            for _ in painting.fill_all(pairs):
                pass
        return np.asarray(store.correction[0][:])


@case("QuPath", "polygon with a hole", "the hole stays empty")
def polygon_hole(folder: Path) -> None:
    found = filled(folder, [feature("Polygon", [SQUARE, INNER])])
    assert found[25, 30] == 1
    assert not found[30:40, 20:40].any()
    assert found.sum() == 30 * 50 - 10 * 20


@case("QuPath", "self-crossing polygon", "two triangles, no error")
def bow_tie(folder: Path) -> None:
    ring = [[10, 10], [60, 60], [60, 10], [10, 60], [10, 10]]
    found = filled(folder, [feature("Polygon", [ring])])
    assert found[35, 15] == 1
    assert found[35, 55] == 1
    assert found[15, 35] == 0


@case("QuPath", "list, collection and single feature", "the same pixels")
def document_forms(folder: Path) -> None:
    one = feature("Polygon", [SQUARE])
    forms = ([one], one, {"type": "FeatureCollection", "features": [one]})
    areas = {int(filled(folder, form).sum()) for form in forms}
    assert areas == {1500}


@case("QuPath", "ring not closed, corners twice, third coordinate", "same pixels")
def loose_rings(folder: Path) -> None:
    high = [[x, y, 5.0] for x, y in SQUARE]
    twice = [p for p in SQUARE for _ in range(2)]
    for ring in (SQUARE[:-1], twice, high, SQUARE[::-1]):
        assert filled(folder, [feature("Polygon", [ring])]).sum() == 1500


@case("QuPath", "overlapping parts of a MultiPolygon", "the union")
def overlapping_parts(folder: Path) -> None:
    moved = [[x + 20, y] for x, y in SQUARE]
    found = filled(folder, [feature("MultiPolygon", [[SQUARE], [moved]])])
    assert found.sum() == 30 * 70


@case("QuPath", "classification null, name with umlaut", "no class; the name")
def odd_classes(folder: Path) -> None:
    path = folder / "a.geojson"
    parts = [
        feature("Polygon", [SQUARE], classification=None),
        feature("Polygon", [SQUARE], classification={"name": "Drüse: kern"}),
    ]
    path.write_text(json.dumps(parts), encoding="utf-8-sig")
    found = [name for _, name in read_polygons(path, FakeImage((100, 120)))]
    assert found == [None, "Drüse: kern"]


@case("QuPath", "points and lines among polygons", "polygons only")
def mixed_geometry(folder: Path) -> None:
    parts = [
        feature("Point", [5, 5]),
        feature("LineString", SQUARE),
        feature("Polygon", [SQUARE]),
    ]
    assert filled(folder, parts).sum() == 1500


@case("QuPath", "polygon partly outside, or of no area", "clipped; a sentence")
def outside_polygon(folder: Path) -> None:
    large = [[-50, -50], [500, -50], [500, 50], [-50, 50], [-50, -50]]
    assert filled(folder, [feature("Polygon", [large])]).sum() == 50 * 120
    flat = [[10, 10], [60, 10], [10, 10], [10, 10]]
    with pytest.raises(UhrSegError):
        filled(folder, [feature("Polygon", [flat])])


@case("QuPath", "no features, coordinates as text, NaN, UTF-16", "a sentence")
def bad_documents(folder: Path) -> None:
    text = [[str(x), str(y)] for x, y in SQUARE]
    nan = [[float("nan"), 1.0], *SQUARE[1:]]
    documents = (
        {"type": "FeatureCollection", "features": []},
        [feature("Polygon", [])], [feature("Polygon", [nan])],
    )  # fmt: skip
    for document in documents:
        with pytest.raises(UhrSegError, match="geojson"):
            filled(folder, document)
    path = folder / "b.geojson"
    path.write_text(json.dumps([feature("Polygon", [SQUARE])]), encoding="utf-16")
    with pytest.raises(UhrSegError, match="geojson"):
        read_polygons(path, FakeImage((100, 120)))
    with pytest.raises(UhrSegError, match="geojson"):
        filled(folder, [feature("Polygon", [[["a", "b"], *text]])])


def labelled(image: FakeImage | None = None) -> LabelStore:
    """Return a temporary store with a ring, a corner contact and an islet."""
    ids = np.zeros((100, 120), np.uint8)
    ids[10:60, 10:60] = 1
    ids[20:40, 20:40] = 2
    ids[25:30, 25:30] = 1
    ids[60:80, 60:80] = 1  # touches the ring in a corner
    store = LabelStore.create(None, image or FakeImage(ids.shape), LEGEND)
    run = store.run_ledger.start_run(RUN)
    store.write(Block(Roi(0, 0, *ids.shape), ids, ids * 50), run.id, "done")
    return store


@case("QuPath", "export of holes and corner contacts", "valid polygons, equal area")
def valid_export(folder: Path) -> None:
    import shapely

    with labelled() as store:
        wanted = np.bincount(store.prediction[0][:].ravel())
        for _ in export(store, folder / "a.geojson", "qupath"):
            pass
    found: dict[str, float] = {}
    for part in json.loads((folder / "a.geojson").read_text())["features"]:
        shape = shapely.geometry.shape(part["geometry"])
        assert shape.is_valid
        assert part["geometry"]["type"] in ("Polygon", "MultiPolygon")
        name = part["properties"]["classification"]["name"]
        found[name] = found.get(name, 0) + shape.area
    assert found == {"road": wanted[1], "lake": wanted[2]}
