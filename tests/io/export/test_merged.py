"""One file of several images, read back by rasterio and pyogrio."""

from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from helpers.label_stores import FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.merged import export_merged, rounding
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
CRS = rasterio.CRS.from_epsg(32632).to_wkt()


def about(x, y, shape=(60, 80), **fields):
    """A fake image of 2 m pixels whose upper left corner is at x and y in metres."""
    affine = (2.0, 0.0, 500_000.0 + x, 0.0, -2.0, 5_300_000.0 - y)
    return replace(
        FakeImage(shape, pixel_size=(2.0, 2.0), unit="metre", affine=affine, crs=CRS),
        **fields,
    )


def store_of(path, image, seed, legend=LEGEND):
    store = LabelStore.create(path, image, legend)
    rng = np.random.default_rng(seed)
    store.prediction[0][:] = rng.integers(0, 3, image.shape, np.uint8)
    return store


@pytest.fixture
def three(tmp_path):
    """Three images: the second overlaps the first, the third lies apart."""
    places = [about(0, 0), about(100, 40), about(400, 300, (30, 20))]
    stores = [
        (f"{i}.tif", store_of(tmp_path / f"{i}.zarr", image, i))
        for i, image in enumerate(places)
    ]
    yield stores
    for _, store in stores:
        store.close()


def test_mosaic_has_the_labels_of_all_images(three, tmp_path):
    assert list(export_merged(three, tmp_path / "m.tif", "cog"))[-1] == 1.0
    arrays = [store.prediction[0][:] for _, store in three]
    wanted = np.zeros((180, 220), np.uint8)
    for array, (y, x) in reversed(
        list(zip(arrays, [(0, 0), (20, 50), (150, 200)], strict=True))
    ):
        part = wanted[y : y + array.shape[0], x : x + array.shape[1]]
        part[:] = np.where(array, array, part)
    with rasterio.open(tmp_path / "m.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), wanted)
        assert raster.crs.to_epsg() == 32632
        assert tuple(raster.transform)[:6] == (2, 0, 500_000, 0, -2, 5_300_000)
        assert raster.tags(1)["CLASS_2"] == "lake"


def test_a_large_mosaic_has_coarser_levels(tmp_path):
    """Its levels follow from those of the images, at the nearest pixel."""
    side = 1500
    stores = []
    for i, x in enumerate((0, 2 * 1501)):
        store = LabelStore.create(
            tmp_path / f"{i}.zarr", about(x, 0, (64, side)), LEGEND
        )
        for level, array in enumerate(store.prediction):
            array[:] = i + 1
            assert level == 0
        stores.append((f"{i}", store))
    list(export_merged(stores, tmp_path / "m.tif", "cog"))
    with rasterio.open(tmp_path / "m.tif") as raster:
        assert raster.shape == (64, 3001)
        assert raster.overviews(1) == [2, 4, 8]
        coarse = raster.read(1, out_shape=(16, 751))
    assert set(np.unique(coarse[:, :374])) == {1}
    assert set(np.unique(coarse[:, 377:750])) == {2}
    for _, store in stores:
        store.close()


def test_positions_are_rounded_to_the_grid(tmp_path):
    places = [about(0, 0), about(100.5, 0)]
    stores = [
        (str(i), store_of(tmp_path / f"{i}.zarr", p, i)) for i, p in enumerate(places)
    ]
    assert rounding(stores) == pytest.approx(0.25)
    list(export_merged(stores, tmp_path / "m.tif", "cog"))
    with rasterio.open(tmp_path / "m.tif") as raster:
        assert raster.shape == (60, 130)
    for _, store in stores:
        store.close()


def test_one_geopackage_names_the_images(three, tmp_path):
    list(export_merged(three, tmp_path / "m.gpkg", "geopackage"))
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "m.gpkg", layer="labels")
    data = dict(zip(meta["fields"], fields, strict=True))
    assert meta["crs"] == "EPSG:32632"
    shapes = shapely.from_wkb(geometry)
    for name, store in three:
        mine = data["image"] == name
        again = rasterize(
            list(zip(shapes[mine], data["class_id"][mine].tolist(), strict=True)),
            store.shape,
            transform=store.affine,
        )
        np.testing.assert_array_equal(again, store.prediction[0][:])
    assert set(data["image"]) == {name for name, _ in three}


@pytest.mark.parametrize(
    ("other", "legend", "said"),
    [
        (about(0, 0, crs=rasterio.CRS.from_epsg(32633).to_wkt()), LEGEND,
         "different coordinate systems"),
        (about(0, 0, crs=None, affine=None), LEGEND, "needs a coordinate system"),
        (about(0, 0, affine=(1.0, 0.0, 5e5, 0.0, -1.0, 5.3e6)), LEGEND, "another size"),
        (about(0, 0), Legend((LabelClass(1, "city", "#ff8000"),)), "Class 1 is 'city'"),
    ],
)  # fmt: skip
def test_images_that_do_not_fit_are_refused(tmp_path, other, legend, said):
    with (
        store_of(tmp_path / "a.zarr", about(0, 0), 0) as first,
        store_of(tmp_path / "b.zarr", other, 1, legend) as second,
        pytest.raises(ExportError) as caught,
    ):
        list(export_merged([("a", first), ("b", second)], tmp_path / "m.tif", "cog"))
    assert said in caught.value.message
    assert not (tmp_path / "m.tif").exists()


def test_formats_of_one_image_are_refused(three, tmp_path):
    with pytest.raises(ExportError, match="does not contain several images"):
        list(export_merged(three, tmp_path / "m.geojson", "geojson"))
