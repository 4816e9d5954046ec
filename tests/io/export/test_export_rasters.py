"""Rasters, each read back with a library that did not write it."""

import os

import numpy as np
import ome_zarr_models
import pytest
import rasterio
import tifffile
import zarr

from helpers.export_stores import SHAPE, UTM32, image, make_store, truth
from napari_uhrseg.io.export import export
from napari_uhrseg.io.export.registry import ExportLimits
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with make_store(tmp_path_factory.mktemp("s") / "labels.zarr", image(UTM32)) as made:
        yield made


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slide")
    source = folder / "slide.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=3)
    group.create_array(
        "0", shape=SHAPE, chunks=(512, 512), dtype="uint8", dimension_names=("y", "x")
    )
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = {"type": "scale", "scale": [0.5, 0.25]}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    multiscale = {"axes": axes, "datasets": [dataset], "name": "slide"}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    with make_store(folder / "labels.zarr", image(path=source)) as made:
        yield made


def finish(parts):
    done = list(parts)
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.slow
def test_the_cog_has_what_is_shown_where_it_lies(store, tmp_path):
    finish(export(store, tmp_path / "a.tif", "cog"))
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), truth(store))
        assert raster.crs.to_epsg() == UTM32
        assert tuple(raster.transform)[:6] == store.affine
        assert raster.nodata == 0
        assert raster.colormap(1)[1] == (255, 128, 0, 255)
        assert raster.tags(1) == {"CLASS_1": "road", "CLASS_2": "lake"}
        assert raster.overviews(1) == [2, 4, 8]
        assert raster.block_shapes == [(512, 512)]
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as raster:
        np.testing.assert_array_equal(raster.read(1), truth(store, 1))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), truth(store))


def test_the_cog_is_laid_out_as_one(store, tmp_path):
    """All directories first, then the tiles of the smallest level, the full last."""
    finish(export(store, tmp_path / "a.tif", "cog"))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        pages = list(tiff.pages)
        firsts = [min(page.dataoffsets) for page in pages]
        assert max(page.offset for page in pages) < min(firsts)
        assert firsts == sorted(firsts, reverse=True)
        assert [page.is_reduced for page in pages] == [False, True, True, True]


def test_tiles_of_one_class_are_there_once(tmp_path):
    with make_store(tmp_path / "s.zarr", missing=[(0, 0), (1, 0)]) as store:
        finish(export(store, tmp_path / "a.tif", "cog"))
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            places = tiff.pages[0].dataoffsets
            assert len(set(places)) < len(places)
            np.testing.assert_array_equal(tiff.asarray(), truth(store))


def test_bigtiff_is_written_for_large_files(store, tmp_path):
    limits = ExportLimits(bigtiff_bytes=1000)
    for name, format_name in (("a.tif", "cog"), ("b.ome.tif", "ome-tiff")):
        finish(export(store, tmp_path / name, format_name, limits=limits))
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.is_bigtiff
            assert len(tiff.series[0].levels) == 4
            np.testing.assert_array_equal(tiff.asarray(), truth(store))
        with rasterio.open(tmp_path / "a.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), truth(store))


def test_confidence_is_a_raster(store, tmp_path):
    finish(export(store, tmp_path / "c.tif", "confidence"))
    with rasterio.open(tmp_path / "c.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), store.confidence[0][:])
        assert raster.nodata == 0
        assert raster.descriptions == ("confidence",)


def test_the_pyramid_of_the_ome_tiff(slide, tmp_path):
    finish(export(slide, tmp_path / "a.ome.tif", "ome-tiff"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert tiff.is_ome
        assert len(tiff.pages) == 1  # the others lie in it
        series = tiff.series[0]
        assert [level.shape for level in series.levels] == [
            (2500, 1100), (1250, 550), (625, 275), (313, 138)
        ]  # fmt: skip
        np.testing.assert_array_equal(series.levels[0].asarray(), truth(slide))
        np.testing.assert_array_equal(series.levels[1].asarray(), truth(slide, 1))
        assert '<M K="2">lake</M>' in tiff.ome_metadata
        assert "pond" not in tiff.ome_metadata
    again = open_image(tmp_path / "a.ome.tif")
    assert again.pixel_size == (0.5, 0.25)
    assert again.unit == "micrometer"
    with rasterio.open(tmp_path / "a.ome.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), truth(slide))


def test_a_label_image_beside_the_image(slide, tmp_path):
    target = slide.path.parent / "beside.zarr"
    finish(export(slide, target, "ome-zarr"))
    group = zarr.open_group(target, mode="r")
    found = ome_zarr_models.open_ome_zarr(group)
    assert type(found).__name__ == "ImageLabel"
    np.testing.assert_array_equal(group["0"][:], truth(slide))
    np.testing.assert_array_equal(group["1"][:], truth(slide, 1))
    said = group.attrs["ome"]["image-label"]
    assert [p["class"] for p in said["properties"]] == ["road", "lake"]
    source = os.path.normpath(target / said["source"]["image"])
    assert source == str(slide.image_path)
    again = open_image(target)
    assert again.pixel_size == (0.5, 0.25)
    np.testing.assert_array_equal(
        again.read(Roi(0, 0, 50, 60)).data[..., 0], truth(slide)[:50, :60]
    )


def test_a_label_image_inside_the_image(slide):
    source = slide.image_path
    finish(export(slide, source / "labels" / "classes", "ome-zarr"))
    finish(export(slide, source / "labels" / "more", "ome-zarr"))
    group = zarr.open_group(source, mode="r")
    assert group["labels"].attrs["ome"]["labels"] == ["classes", "more"]
    found = ome_zarr_models.open_ome_zarr(group["labels/classes"])
    assert found.ome_attributes.image_label.source.image == "../../"
    assert ome_zarr_models.open_ome_zarr(group).labels is not None
    np.testing.assert_array_equal(group["labels/classes/0"][:], truth(slide))


def test_an_older_image_gets_labels_of_its_own_version(slide, tmp_path):
    group = zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=SHAPE, chunks=(512, 512), dtype="uint8")
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = {"type": "scale", "scale": [0.5, 0.25]}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    multiscale = {"version": "0.4", "axes": axes, "datasets": [dataset]}
    group.attrs["multiscales"] = [multiscale]
    finish(export(slide, tmp_path / "old.zarr" / "labels" / "classes", "ome-zarr"))
    group = zarr.open_group(tmp_path / "old.zarr", mode="r")
    assert group["labels"].attrs["labels"] == ["classes"]
    found = ome_zarr_models.open_ome_zarr(group["labels/classes"])
    assert type(found).__module__.startswith("ome_zarr_models.v04")
    np.testing.assert_array_equal(group["labels/classes/0"][:], truth(slide))
