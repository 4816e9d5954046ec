"""Tests of mask import with real files."""

import json

import numpy as np
import pytest
import rasterio
from PIL import Image as Pillow

from helpers.label_stores import LEGEND, FakeImage
from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.class_table import read_class_table
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


def test_mask_values_that_are_ids_and_training_values_are_unclear(tmp_path):
    """Neither reading is chosen unless it is named."""
    legend = Legend(
        (LabelClass(1, "road", "#ff8000", 2), LabelClass(2, "w", "#0000ff", 1))
    )
    reader = opened(png(tmp_path, labels()))
    assert reader.is_ambiguous(legend)
    assert not reader.is_ambiguous(LEGEND)  # has no training values
    assert [c.name for c in reader.classes(legend)] == [None, None, None]
    named = [c.name for c in reader.classes(legend, numbering="ids")]
    assert named == [None, "road", "w"]
    named = [c.name for c in reader.classes(legend, numbering="training")]
    assert named == [None, "w", "road"]
    table = {0: "w", 1: "heath", 2: "road"}
    assert not reader.is_ambiguous(legend, table)
    assert [c.name for c in reader.classes(legend, table)] == ["w", "heath", "road"]


def test_readings_that_agree_are_not_ambiguous(tmp_path):
    legend = Legend(
        (LabelClass(1, "road", "#ff8000", 1), LabelClass(2, "w", "#0000ff", 2))
    )
    reader = opened(png(tmp_path, labels()))
    assert not reader.is_ambiguous(legend)
    assert [c.name for c in reader.classes(legend)] == [None, "road", "w"]


def test_table_of_geotiff_names_its_values(tmp_path):
    path = geotiff(tmp_path, labels(), nodata=0)
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, CLASS_1="lake", CLASS_2="road", OTHER="x")
    reader = opened(path)
    assert reader.class_table == {1: "lake", 2: "road"}
    assert [c.name for c in reader.classes(LEGEND)] == ["lake", "road"]


def test_table_with_one_colour_for_two_classes_is_refused(tmp_path):
    path = geotiff(tmp_path, labels())
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {1: (9, 9, 9, 255), 2: (9, 9, 9, 255)})
        file.update_tags(1, CLASS_1="lake", CLASS_2="road")
    with pytest.raises(OpenError, match="one colour, #090909, for two classes"):
        opened(path).classes(LEGEND)


def test_table_of_ome_zarr_names_its_values(tmp_path):
    for version, file in ((3, "zarr.json"), (2, ".zattrs")):
        folder = tmp_path / f"{version}.zarr"
        folder.mkdir()
        label = {
            "properties": [{"label-value": 1, "class": "lake"}, {"label-value": 2}]
        }
        own = {"image-label": label}
        data = {"attributes": {"ome": own}} if version == 3 else own
        (folder / file).write_text(json.dumps(data))
        assert read_class_table(folder) == {1: "lake"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attributes": {"ome": 3}}'])
def test_invalid_table_is_no_table(tmp_path, text):
    (tmp_path / "zarr.json").write_text(text)
    assert read_class_table(tmp_path) == {}
    (tmp_path / "a.tif").write_bytes(text.encode())
    assert read_class_table(tmp_path / "a.tif") == {}


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


@pytest.mark.slow
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
