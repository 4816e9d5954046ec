"""Outlines of what spans an image lie on disk: memory is that of a strip and a ring."""

import json
import tracemalloc

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.features import rasterize
from shapely.geometry import shape

from helpers.outlines import GeneratedLabels, outlines, polygon
from helpers.processes import run_python
from napari_uhrseg.io.export.registry import ExportLimits, WriteOptions, format_named
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.rings import Outline
from napari_uhrseg.io.vectorize.spill import SpillableArray, SpillFile
from napari_uhrseg.io.vectorize.trace import trace_outlines
from napari_uhrseg.types import Roi

MB = 1 << 20


def background(height: int, width: int = 256):
    """One class around small islands: a hole each."""
    for y in range(0, height, 64):
        labels = np.ones((64, width), np.uint8)
        labels[2::4, 2::4] = 2
        yield Roi(y, 0, 64, width), labels


def peak_of(height: int, limits: VectorLimits) -> tuple[int, int]:
    """Most bytes that tracing took, and the corners of the largest object."""
    largest = 0
    tracemalloc.start()
    for found in trace_outlines(background(height), limits):
        if isinstance(found, Outline):
            largest = max(largest, found.corners)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, largest


@pytest.mark.slow
def test_memory_does_not_grow_with_the_holes_of_a_background():
    limits = VectorLimits(spill_bytes=MB // 32)
    (small, few), (large, many) = peak_of(128, limits), peak_of(512, limits)
    assert many > 3.9 * few > 7_000
    # in memory, the difference would be 1 MB: 12 bytes per corner, an array per hole
    assert large < small + MB // 3


@pytest.mark.slow
def test_rings_are_read_from_disk_unchanged():
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 4, (60, 50), np.uint8).repeat(3, 0).repeat(2, 1)
    labels[::7] = 1
    expected = {(o.class_id, polygon(o).normalize().wkb) for o in outlines(labels, [9])}
    # everything goes to disk, strip by strip
    limits = VectorLimits(spill_bytes=0, spill_rows=3)
    strips = ((Roi(y, 0, 9, 100), labels[y : y + 9]) for y in range(0, 180, 9))
    found = set()
    for one in trace_outlines(strips, limits):
        if isinstance(one, Outline):
            found.add((one.class_id, polygon(one).normalize().wkb))
    assert found == expected


def test_rows_keep_their_order_from_both_ends():
    file = SpillFile(VectorLimits(spill_bytes=0))

    def table(*values: int) -> np.ndarray:
        return np.array([[v, v, v] for v in values], np.int32)

    first, second = SpillableArray(file, table(1, 2)), SpillableArray(file, table(5))
    first.append(table(3))
    file.spill_if_full([first])
    second.append(table(6))
    first.append(table(4))
    file.spill_if_full([second])
    whole = first.followed_by(second)
    whole.append(table(7))
    assert whole.table()[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert whole.count == 7
    file.close()


@pytest.mark.slow
def test_what_winds_through_the_image_is_divided(tmp_path):
    """The written polygons equal the image, with holes, and no piece is large."""
    limits = ExportLimits(max_corners=300, strip_pixels=1)  # strips of 16 rows
    options = WriteOptions(limits=limits)
    store = GeneratedLabels(500, 128)
    truth = store.read_labels(Roi(0, 0, *store.shape))
    list(format_named("geopackage").write(store, tmp_path / "a.gpkg", options))
    list(format_named("qupath").write(store, tmp_path / "a.geojson", options))
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "a.gpkg", layer="labels")
    data = dict(zip(meta["fields"], fields, strict=True))
    packed = shapely.from_wkb(geometry)
    classes = {"road": 1, "lake": 2}
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    texts = [shape(f["geometry"]) for f in features]
    names = [f["properties"]["classification"]["name"] for f in features]
    for shapes, ids, down in (
        (packed, data["class_id"].tolist(), -1.0),
        (texts, [classes[name] for name in names], 1.0),
    ):
        assert shapely.is_valid(shapes).all()
        assert shapely.get_num_coordinates(shapes).max() < 300 + 2 * 17 * 129
        again = rasterize(
            zip(shapes, ids, strict=True), truth.shape, transform=(1, 0, 0, 0, down, 0)
        )
        np.testing.assert_array_equal(again, truth)
        assert shapely.area(shapes).sum() == np.count_nonzero(truth)
    divided = shapely.area(packed[data["divided"]])
    assert len(divided) > 4
    # two objects were divided, and nothing else
    assert divided.sum() == np.count_nonzero(truth) - np.count_nonzero(
        truth[:, :64] == 2
    )


CHILD = """
import resource, sys
from helpers.outlines import GeneratedLabels
from pathlib import Path
from napari_uhrseg.io.export.registry import ExportLimits, WriteOptions, format_named
options = WriteOptions(limits=ExportLimits(
    spill_bytes=1 << 20, band_bytes=1 << 20, strip_pixels=1 << 14,
    max_corners=30_000, batch_corners=30_000,
))
for height in (400, 3200):
    for name in ("geopackage", "qupath"):
        path = Path(sys.argv[1]) / f"{height}-{name}"
        form = format_named(name)
        path = path.with_suffix(form.suffix)
        list(form.write(GeneratedLabels(height), path, options))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_ring(tmp_path):
    small, large = map(int, run_python(CHILD, tmp_path).split())
    assert large < small + 30  # MB; undivided it is over fifty
