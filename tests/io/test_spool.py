"""Outlines of what spans an image lie on disk: memory is that of a strip and a ring."""

import json
import tracemalloc

import numpy as np
import pyogrio
from label_fakes import LEGEND, RUN, FakeImage
from shapely.geometry import shape
from test_outlines import outlines, polygon

from napari_uhrseg.io import spool
from napari_uhrseg.io.export import export, polygons
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.io.outlines import trace
from napari_uhrseg.io.rings import Outline
from napari_uhrseg.io.spool import Rows, Spool
from napari_uhrseg.io.strips import follow_objects
from napari_uhrseg.types import Block, Roi

MB = 1 << 20


def background(height: int, width: int = 256):
    """One class around small islands: a hole each."""
    for y in range(0, height, 64):
        labels = np.ones((64, width), np.uint8)
        labels[2::4, 2::4] = 2
        yield Roi(y, 0, 64, width), labels


def peak_of(height: int) -> tuple[int, int]:
    """Most bytes that tracing took, and the corners of the largest object."""
    largest = 0
    strips = follow_objects(background(height))
    tracemalloc.start()
    for found in trace(strips):
        if isinstance(found, Outline) and found.rings.corners > largest:
            largest = sum(len(ring) for ring in found.rings)
            assert largest == found.rings.corners
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, largest


def test_memory_does_not_grow_with_the_holes_of_a_background(monkeypatch):
    monkeypatch.setattr(spool, "HELD", MB // 32)
    (small, few), (large, many) = peak_of(128), peak_of(512)
    assert many > 3.9 * few > 7_000
    # held, what came more would be 1 MB: 12 bytes a corner, and an array a hole
    assert large < small + MB // 3


def test_rings_come_back_from_disk_as_they_were(monkeypatch):
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 4, (60, 50), np.uint8).repeat(3, 0).repeat(2, 1)
    labels[::7] = 1
    expected = {(o.class_id, polygon(o).normalize().wkb) for o in outlines(labels, [9])}
    monkeypatch.setattr(spool, "HELD", 0)  # everything goes to disk, strip by strip
    monkeypatch.setattr(spool, "READ", 3)
    found = set()
    for one in trace(follow_objects((Roi(y, 0, 9, 100), labels[y : y + 9])
                                     for y in range(0, 180, 9))):  # fmt: skip
        if isinstance(one, Outline):
            found.add((one.class_id, polygon(one).normalize().wkb))
    assert found == expected


def test_rows_keep_their_order_from_both_ends(monkeypatch):
    monkeypatch.setattr(spool, "HELD", 0)
    held = Spool()

    def table(*values: int) -> np.ndarray:
        return np.array([[v, v, v] for v in values], np.int32)

    first, second = Rows(held, table(1, 2)), Rows(held, table(5))
    first.append(table(3))
    held.relieve([first])
    second.append(table(6))
    first.append(table(4))
    held.relieve([second])
    whole = first.followed_by(second)
    whole.append(table(7))
    assert whole.table()[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert whole.count == 7
    held.close()


def test_a_polygon_that_is_not_held_whole_is_written_the_same(tmp_path, monkeypatch):
    labels = np.concatenate([part for _, part in background(256)])
    written = []
    with LabelStore.create(None, FakeImage(labels.shape), LEGEND) as store:
        run = store.start_run(RUN)
        block = Block(Roi(0, 0, *labels.shape), labels, labels)
        store.write(block, run.id, "done")
        for large in (1_000_000, 100):
            monkeypatch.setattr(polygons, "LARGE", large)
            path = tmp_path / f"{large}.geojson"
            list(export(store, path, "qupath"))
            shapes = [
                shape(f["geometry"]) for f in json.loads(path.read_text())["features"]
            ]
            assert all(s.is_valid for s in shapes)
            assert sum(s.area for s in shapes) == labels.size
            written.append({s.normalize().wkb for s in shapes})
            list(export(store, tmp_path / f"{large}.gpkg", "geopackage"))
            again = pyogrio.raw.read(tmp_path / f"{large}.gpkg")[2]
            assert len(again) == len(shapes)
    assert written[0] == written[1]
