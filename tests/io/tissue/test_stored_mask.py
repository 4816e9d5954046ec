"""The tissue mask in a label store, and its export."""

import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
import zarr
from PIL import Image as Picture

from napari_uhrseg.errors import ExportError, StoreError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.tissue.export_mask import write_mask
from napari_uhrseg.io.tissue.stored_mask import read_tissue, write_tissue
from napari_uhrseg.types import (
    AreaSize,
    LabelClass,
    Legend,
    TissueMask,
    TissueSettings,
)

SHAPE = (90, 130)
LEGEND = Legend((LabelClass(1, "gland", "#ff0000"),))
SETTINGS = TissueSettings(0.2, None, AreaSize(50, "µm²"), None, 2.0)


@pytest.fixture
def store(tmp_path):
    data = np.zeros((*SHAPE, 3), np.uint8)
    image = image_from_array(
        data, name="slide", rgb=True, pixel_size=(0.5, 0.5), unit="micrometer"
    )
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as opened:
        yield opened


def mask_of(seed: int, settings: TissueSettings | None = SETTINGS) -> TissueMask:
    pixels = np.random.default_rng(seed).random(SHAPE) > 0.5
    return TissueMask.of(pixels, SHAPE, "saturation 0.200", settings)


def test_mask_is_kept_and_replaced(store):
    assert read_tissue(store.path, SHAPE) is None
    write_tissue(store, mask_of(0))
    write_tissue(store, mask_of(1))
    found = read_tissue(store.path, SHAPE)
    assert found == mask_of(1)
    assert (found.source, found.settings) == ("saturation 0.200", SETTINGS)
    write_tissue(store, mask_of(2, None))
    assert read_tissue(store.path, SHAPE).settings is None


def test_mask_is_a_label_image_of_ome_zarr(store):
    write_tissue(store, mask_of(0))
    root = zarr.open_group(store.path, mode="r")
    assert "tissue" in root["labels"].attrs["ome"]["labels"]
    group = root["labels/tissue"]
    ome = group.attrs["ome"]
    assert ome["image-label"]["source"] == {"image": "../../"}
    dataset = ome["multiscales"][0]["datasets"][0]
    assert dataset["coordinateTransformations"][0]["scale"] == [0.5, 0.5]
    np.testing.assert_array_equal(group[dataset["path"]][:], mask_of(0).pixels)


def test_store_with_a_mask_opens_again(store):
    write_tissue(store, mask_of(0))
    store.close()
    with LabelStore.open(store.path, write=True) as again:
        assert read_tissue(again.path, SHAPE) == mask_of(0)


def test_description_of_another_mask_is_ignored(store):
    write_tissue(store, mask_of(0))
    pixels = mask_of(1).pixels.astype(np.uint8)
    zarr.open_array(store.path / "labels/tissue/0", mode="r+")[:] = pixels
    found = read_tissue(store.path, SHAPE)
    assert found == mask_of(1)
    assert (found.source, found.settings) == ("", None)


def test_writing_needs_the_lock(store):
    store.close()
    with (
        LabelStore.open(store.path) as opened,
        pytest.raises(StoreError, match="not open for writing"),
    ):
        write_tissue(opened, mask_of(0))


def test_mask_of_another_size_is_reported(store):
    write_tissue(store, mask_of(0))
    with pytest.raises(StoreError, match=r"tissue mask of .* is damaged"):
        read_tissue(store.path, (91, 130))
    with pytest.raises(ValueError, match="for labels of"):
        write_tissue(store, TissueMask.of(np.ones((9, 9), bool), (9, 9)))


def test_exports_are_read_back(store, tmp_path):
    mask = mask_of(0)
    write_mask(mask, tmp_path / "mask.png")
    np.testing.assert_array_equal(
        np.asarray(Picture.open(tmp_path / "mask.png")) > 0, mask.pixels
    )
    write_mask(mask, tmp_path / "mask.geojson")
    geometry = pyogrio.raw.read(tmp_path / "mask.geojson")[2]
    found = rasterio.features.rasterize(shapely.from_wkb(geometry), SHAPE) > 0
    np.testing.assert_array_equal(found, mask.pixels)
    with pytest.raises(ExportError, match="neither a GeoJSON nor a PNG"):
        write_mask(mask, tmp_path / "mask.tif")
