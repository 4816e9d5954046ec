"""Areas against shapely, skimage and the ellipsoid of pyproj."""

import csv
import io

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, regionprops

from helpers.export_stores import LEGEND, UTM32, image, make_store, truth
from helpers.label_stores import RUN, FakeImage, chunk_block
from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.export.class_areas import areas, estimated_areas, to_csv
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.vectorize.label_strips import track_objects
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import Polygon, Roi


def counted(*arguments):
    *done, table = areas(*arguments)
    assert done == sorted(done)
    return table


def by_name(table):
    return {row.label.name: row for row in table.rows}


def sizes_of(labels, class_id):
    return sorted(
        r.area for r in regionprops(label(labels == class_id, connectivity=1))
    )


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """0.5 by 0.25 µm pixels."""
    with make_store(tmp_path_factory.mktemp("s") / "labels.zarr") as made:
        yield made


@pytest.mark.slow
def test_every_pixel_and_every_object_counts(slide):
    table = counted(slide)
    labels = truth(slide)
    assert table.unit == "µm²"
    assert not table.estimated
    assert list(by_name(table)) == ["road", "lake"]  # the pond is a lake now
    for class_id, row in enumerate(table.rows, 1):
        pixels = np.count_nonzero(labels == class_id)
        assert row.pixels == pixels
        assert row.area == pixels * 0.125
        assert row.share == pixels / np.count_nonzero(labels)
        sizes = np.array(sizes_of(labels, class_id)) * 0.125
        assert row.objects.count == len(sizes)
        assert row.objects.smallest == sizes[0]
        assert row.objects.largest == sizes[-1]
        assert row.objects.mean == pytest.approx(sizes.mean())
        quarters = np.quantile(sizes, (0.25, 0.5, 0.75), method="inverted_cdf")
        o = row.objects
        np.testing.assert_array_equal([o.lower, o.median, o.upper], quarters)
    assert table.unlabelled == np.count_nonzero(labels == 0) * 0.125


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 2))
    ),
    st.integers(1, 5),
)
def test_objects_are_followed_from_strip_to_strip(labels, height):
    cut = (
        (
            Roi(y, 0, len(labels[y : y + height]), labels.shape[1]),
            labels[y : y + height],
        )
        for y in range(0, len(labels), height)
    )
    sizes, found = np.zeros(0), []
    for strip in track_objects(cut):
        now = np.bincount(strip.objects.ravel() + 1, minlength=strip.count + 1)[1:]
        now = now.astype(float)
        np.add.at(now, strip.carried, sizes)
        found += np.delete(now, strip.open).tolist()
        sizes = now[strip.open]
    expected = sorted(sizes_of(labels, 1) + sizes_of(labels, 2))
    assert sorted(found + sizes.tolist()) == expected


@pytest.mark.slow
def test_areas_do_not_depend_on_the_size_of_the_strips(slide):
    narrow = VectorLimits(band_bytes=1, strip_pixels=1, read_columns=100)
    assert counted(slide, None, "image", narrow) == counted(slide)


def test_a_region_with_a_hole(slide):
    outer = ((100.0, 50.0), (2000.0, 50.0), (2000.0, 1000.0), (100.0, 1000.0))
    hole = ((500.0, 300.0), (1500.0, 300.0), (1500.0, 700.0), (500.0, 700.0))
    table = counted(slide, Polygon(outer, (hole,)), "ring")
    inside = truth(slide)[100:2000, 50:1000].copy()
    inside[400:1400, 250:650] = 0
    assert table.region == "ring"
    for class_id, row in enumerate(table.rows, 1):
        assert row.pixels == np.count_nonzero(inside == class_id)
        assert row.objects.count == len(sizes_of(inside, class_id))
    total = (1900 * 950 - 1000 * 400) * 0.125
    assert sum(r.area for r in table.rows) + table.unlabelled == total


def test_a_region_beside_the_image_holds_nothing(slide):
    table = counted(slide, Roi(9000, 0, 10, 10))
    assert [row.pixels for row in table.rows] == [0, 0]
    assert [row.objects.count for row in table.rows] == [0, 0]
    assert [row.share for row in table.rows] == [0, 0]


def whole(path, about):
    """A store all of class 1."""
    store = LabelStore.create(path, about, LEGEND)
    store.prediction[0][:] = 1
    store.prediction[1][:] = 1
    return store


@pytest.mark.slow
@pytest.mark.parametrize("latitude", [80.0, 51.0, 0.5, -33.0])
def test_degrees_are_measured_on_the_ellipsoid(tmp_path, latitude):
    affine = (0.004, 0.0, 170.0, 0.0, -0.002, latitude)
    with whole(tmp_path / "s.zarr", image(4326, affine)) as store:
        table = counted(store)
    geod = pyproj.Geod(ellps="WGS84")
    # parallels are no geodesics: with a corner at each pixel they nearly are
    x = np.linspace(170.0, 170.0 + 4.4, 100 * 1100 + 1)
    top, bottom = np.full_like(x, latitude), np.full_like(x, latitude - 5.0)
    ring = np.r_[x, x[::-1]], np.r_[bottom, top]
    area = geod.polygon_area_perimeter(*ring)[0]
    row = table.rows[0]
    assert table.unit == "m²"
    assert row.area == pytest.approx(area, rel=1e-7)
    assert row.objects.largest == pytest.approx(area, rel=1e-3)
    assert estimated_area(tmp_path, image(4326, affine)) == pytest.approx(area, 1e-3)


def estimated_area(tmp_path, about):
    with whole(tmp_path / "e.zarr", about) as store:
        return estimated_areas(store).rows[0].area


def test_a_projection_is_measured_on_its_plane(tmp_path):
    with whole(tmp_path / "s.zarr", image(UTM32)) as store:
        table = counted(store)
    assert table.rows[0].area == 2500 * 1100 * 0.25
    assert "plane" in table.basis


def test_web_mercator_is_not_taken_at_its_word(tmp_path):
    affine = (0.5, 0.0, 1_000_000.0, 0.0, -0.5, 6_800_000.0)  # 52 degrees north
    with whole(tmp_path / "s.zarr", image(3857, affine)) as store:
        table = counted(store)
    to_degrees = pyproj.Transformer.from_crs(3857, 4326, always_xy=True)
    x, y = 1_000_000 + 1100 * 0.5, 6_800_000 - 2500 * 0.5
    lon, lat = to_degrees.transform(
        [1_000_000, x, x, 1_000_000], [y, y, 6_800_000, 6_800_000]
    )
    area = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0]
    assert table.rows[0].area == pytest.approx(area, rel=1e-5)
    assert "2.6" in table.basis


def test_without_a_pixel_size_pixels_are_counted(tmp_path):
    about = FakeImage((2500, 1100), pixel_size=None, unit="pixel")
    with whole(tmp_path / "s.zarr", about) as store:
        table = counted(store)
    assert (table.unit, table.rows[0].area) == ("px", 2500 * 1100)
    assert "no pixel size" in table.basis


def test_the_estimate_is_near_and_says_nothing_of_objects(slide):
    exact, quick = counted(slide), estimated_areas(slide)
    assert quick.estimated
    for a, b in zip(exact.rows, quick.rows, strict=True):
        assert b.area == pytest.approx(a.area, rel=0.02)
        assert b.objects is None
    region = Roi(200, 100, 1000, 600)
    exact, quick = counted(slide, region), estimated_areas(slide, region)
    for a, b in zip(exact.rows, quick.rows, strict=True):
        assert b.area == pytest.approx(a.area, rel=0.02)


def test_the_table_as_csv(slide):
    text = to_csv([counted(slide), estimated_areas(slide, Roi(0, 0, 9, 9), "corner")])
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["region"] for line in lines] == ["image"] * 2 + ["corner"] * 2
    road = lines[0]
    assert road["class"] == "road"
    assert float(road["area_um2"]) == int(road["pixels"]) * 0.125
    assert float(road["area_mm2"]) == pytest.approx(float(road["area_um2"]) / 1e6)
    assert int(road["objects"]) > 1
    assert float(road["object_max_um2"]) >= float(road["object_median_um2"]) > 0
    assert lines[2]["objects"] == ""


def sparse_store(path, shape, chunks):
    """Return a store with labels in some chunks only, and their pixels."""
    store = LabelStore.create(path, FakeImage(shape), LEGEND)
    run = store.run_ledger.start_run(RUN)
    for row, column in chunks:
        store.write(chunk_block(row, column, 3, shape), run.id, "done")
    return store


@pytest.mark.slow
@pytest.mark.parametrize(
    "chunks", [[], [(0, 2), (2, 0)], [(0, 0), (1, 0), (3, 2)]], ids=str
)
@pytest.mark.parametrize(
    "region",
    [
        None,
        Roi(700, 500, 2400, 1600),
        Roi(0, 0, 100, 100),
        Polygon(((100.0, 50.0), (3190.0, 400.0), (1500.0, 2190.0))),
    ],
    ids=str,
)
def test_areas_of_sparse_labels_count_every_pixel(tmp_path, chunks, region):
    shape = (3200, 2200)
    with sparse_store(tmp_path / "a.zarr", shape, chunks) as store:
        table = counted(store, region)
        labels = store.prediction[0][:]
    inside = np.ones(shape, bool)
    if region is not None:
        inside = rasterize(region, Roi(0, 0, *shape))
    labels = np.where(inside, labels, 0)
    for row in table.rows:
        wanted = sizes_of(labels, row.label.id)
        assert row.pixels == sum(wanted)
        assert row.objects.count == len(wanted)
        if wanted:
            assert row.objects.largest == wanted[-1] * 0.125
    assert table.unlabelled == (inside.sum() - np.count_nonzero(labels)) * 0.125


@pytest.mark.slow
def test_areas_of_few_labels_in_a_large_image_read_only_these(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        LabelStore, "read_labels",
        lambda self, roi, level=0: read.append(roi.area) or np.zeros(
            (roi.height, roi.width), np.uint8),
    )  # fmt: skip
    shape = (100_000, 100_000)
    with sparse_store(tmp_path / "a.zarr", shape, [(70, 3), (71, 3)]) as store:
        table = counted(store)
    assert sum(read) <= 2050 * 1024
    assert table.unlabelled == 1e10 * 0.125


def test_areas_of_a_damaged_coordinate_system_are_those_of_the_pixel_size(tmp_path):
    affine = (0.5, 0.0, 0.0, 0.0, -0.5, 0.0)
    shown = FakeImage((100, 100), pixel_size=(0.5, 0.5), unit="metre", affine=affine,
                      crs='PROJCS["cut')  # fmt: skip
    with LabelStore.create(tmp_path / "a.zarr", shown, LEGEND) as store:
        table = counted(store)
    assert table.unlabelled == 100 * 100 * 0.25
    assert table.basis == "the image's pixel size, on the plane of its projection"
