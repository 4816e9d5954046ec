"""Tests of mask import with real files."""

import numpy as np
import pytest
import rasterio
from PIL import Image as Pillow

from helpers.label_stores import LEGEND, FakeImage
from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.mask_import import MaskReader
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi

SHAPE = (600, 500)
WKT = rasterio.crs.CRS.from_epsg(32632).to_wkt()
IMAGE = FakeImage(shape=SHAPE, crs=WKT, affine=(0.5, 0, 4e5, 0, -0.5, 5e6))
WHOLE = Roi(0, 0, *SHAPE)


def labels():
    data = np.zeros(SHAPE, np.uint8)
    data[100:300, 50:200] = 1
    data[200:550, 180:450] = 2
    return data


def png(folder, array):
    path = folder / "mask.png"
    Pillow.fromarray(array).save(path)
    return path


def geotiff(folder, array, affine=(0.5, 0, 4e5, 0, -0.5, 5e6), epsg=32632, nodata=None):
    path = folder / "mask.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[0], width=array.shape[1], count=1,
        dtype=array.dtype, crs=f"EPSG:{epsg}", transform=rasterio.Affine(*affine),
        nodata=nodata, tiled=True, blockxsize=256, blockysize=256,
    ) as file:  # fmt: skip
        file.write(array, 1)
    return path


def opened(path, image=IMAGE, at=None):
    reader = MaskReader.open(path, image, at)
    assert list(reader.scan())[-1] == 1.0
    return reader


def read(reader, table, roi=WHOLE):
    mask, ids = reader.read(roi, table)
    return np.where(mask, ids, 0)


def test_mask_values_match_class_ids(tmp_path):
    data = labels()
    data[0, :7] = 9
    reader = opened(png(tmp_path, data))
    assert [(c.value, c.pixels, c.color, c.name) for c in reader.classes(LEGEND)] == [
        (0, int((data == 0).sum()), None, None),
        (1, int((data == 1).sum()), None, "road"),
        (2, int((data == 2).sum()), None, "lake"),
        (9, 7, None, "class 9"),
    ]
    assert (reader.at, reader.side) == (WHOLE, 2048)
    np.testing.assert_array_equal(
        read(reader, {1: 2, 2: 1}), np.choose(np.minimum(data, 3), [0, 2, 1, 0])
    )
    part = Roi(150, 100, 77, 111)
    np.testing.assert_array_equal(
        read(reader, {1: 1, 2: 2}, part), labels()[part.slices]
    )


def test_mask_values_match_source_values_first(tmp_path):
    legend = Legend(
        (LabelClass(1, "road", "#ff8000", 2), LabelClass(2, "w", "#0000ff", 1))
    )
    reader = opened(png(tmp_path, labels()))
    assert [c.name for c in reader.classes(legend)] == [None, "w", "road"]


def test_colour_mask_has_class_for_each_colour(tmp_path):
    colors = np.array([[0, 0, 0], [255, 128, 0], [1, 2, 3]], np.uint8)
    reader = opened(png(tmp_path, colors[labels()]))
    assert [(c.color, c.name) for c in reader.classes(LEGEND)] == [
        ("#000000", None), ("#010203", "class #010203"), ("#ff8000", "road"),
    ]  # fmt: skip
    found = read(reader, {0xFF8000: 1, 0x010203: 2})
    np.testing.assert_array_equal(found, labels())


def test_palette_and_grey_mask_saved_as_rgb(tmp_path):
    picture = Pillow.fromarray(labels())
    picture.putpalette([0, 0, 0, 255, 128, 0, 0, 0, 255])
    picture.save(tmp_path / "palette.png")
    names = [c.name for c in opened(tmp_path / "palette.png").classes(LEGEND)]
    assert names == [None, "lake", "road"]
    grey = opened(png(tmp_path, labels()[..., None].repeat(3, 2)))
    assert [c.name for c in grey.classes(LEGEND)] == [None, "road", "lake"]


def test_geotiff_mask_is_registered_by_coordinates(tmp_path):
    """Twice as coarse, another corner, and one value that means nothing."""
    data = labels()[100:500:2, 100:400:2]
    affine = (1, 0, 4e5 + 50, 0, -1, 5e6 - 50)
    reader = opened(geotiff(tmp_path, data, affine, nodata=0))
    assert reader.at == Roi(100, 100, 400, 300)
    assert 0 not in [c.value for c in reader.classes(LEGEND)]
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[100:500, 100:400] = data.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(read(reader, {1: 1, 2: 2}), wanted)


def test_mask_of_other_size_covers_given_rectangle(tmp_path):
    path = png(tmp_path, labels()[::5, ::5])
    image = FakeImage(shape=SHAPE)
    message = "mask.png has 100 x 120 pixels, and scene has 500 x 600"
    with pytest.raises(OpenError, match=message):
        MaskReader.open(path, image)
    reader = opened(path, image, WHOLE)
    wanted = labels()[::5, ::5].repeat(5, 0).repeat(5, 1)
    np.testing.assert_array_equal(read(reader, {1: 1, 2: 2}), wanted)


def test_invalid_or_distant_mask_is_rejected(tmp_path):
    rng = np.random.default_rng(0)
    photo = png(tmp_path, rng.integers(0, 255, (*SHAPE, 3), np.uint8))
    with pytest.raises(OpenError, match="more than 255 different values"):
        opened(photo)
    with pytest.raises(OpenError, match="another coordinate system"):
        MaskReader.open(geotiff(tmp_path, labels(), epsg=32633), IMAGE)
    far = (0.5, 0, 5e5, 0, -0.5, 5e6)
    with pytest.raises(OpenError, match="does not overlap scene"):
        MaskReader.open(geotiff(tmp_path, labels(), far), IMAGE)
    turned = (0.5, 0.1, 4e5, 0.1, -0.5, 5e6)
    with pytest.raises(OpenError, match="is rotated against scene"):
        MaskReader.open(geotiff(tmp_path, labels(), turned), IMAGE)
    with pytest.raises(OpenError, match="has fractional values"):
        opened(geotiff(tmp_path, labels().astype(np.float32) / 3))
    whole = geotiff(tmp_path, labels().astype(np.float32))
    np.testing.assert_array_equal(read(opened(whole), {1: 1, 2: 2}), labels())
    with pytest.raises(OpenError):
        MaskReader.open(tmp_path / "missing.png", IMAGE)


def test_imported_mask_is_one_undo_step(tmp_path):
    reader = opened(geotiff(tmp_path, labels()))
    with (
        LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND) as store,
        Corrections.open(store) as corrections,
    ):
        assert list(corrections.import_labels(reader, {1: 2, 2: 1}))[-1] == 1.0
        wanted = np.choose(labels(), [0, 2, 1])
        np.testing.assert_array_equal(store.correction[0][:], wanted)
        counts = corrections.counts()
        assert counts == {1: int((wanted == 1).sum()), 2: int((wanted == 2).sum())}
        corrections.undo()
        assert not store.correction[0][:].any()
        assert not corrections.can_undo
        with pytest.raises(ValueError, match="not in the legend"):
            corrections.import_labels(reader, {1: 7})
