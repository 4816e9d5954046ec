"""Names and formats that no reader opens, and archives."""

import shutil

import numpy as np
import pytest
import zarr

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import on_another_server, to_path
from napari_uhrseg.types import Roi


@pytest.mark.parametrize(
    ("name", "title", "program"),
    [
        ("a.czi", "Zeiss CZI", "bioformats2raw"),
        ("a.ECW", "ECW", "gdal_translate"),
        ("a.zvi", "Zeiss ZVI", "bioformats2raw"),
        ("a.hdf5", "HDF5", "gdal_translate"),
    ],
)
def test_known_formats_are_named(tmp_path, name, title, program):
    (tmp_path / name).write_bytes(b"data")
    with pytest.raises(OpenError, match=f"{name} is of the format {title}") as error:
        open_image(tmp_path / name)
    assert program in error.value.hint


def test_folder_without_an_image(tmp_path):
    with pytest.raises(OpenError, match="is a folder without an image"):
        open_image(tmp_path)


@pytest.mark.parametrize("suffix", [".zarr.zip", ".ozx"])
def test_zarr_in_a_zip_file(tmp_path, suffix):
    data = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    zarr.create_array(tmp_path / "store", data=data, chunks=(32, 32))
    archive = shutil.make_archive(tmp_path / "a", "zip", tmp_path / "store")
    path = tmp_path / f"a{suffix}"
    shutil.move(archive, path)
    image = open_image(path)
    assert image.name == path.name
    np.testing.assert_array_equal(image.read(Roi(0, 0, 64, 48)).data[..., 0], data)


@pytest.mark.parametrize(
    ("where", "base", "other"),
    [
        ("/data/a.tif", "/data/a.zarr", False),
        ("https://h/a.tif", "/data/a.zarr", True),
        ("https://h/a.tif", "https://h/a.zarr", False),
        ("https://h:81/a.tif", "https://h/a.zarr", True),
        ("s3://one/a.tif", "s3://two/a.zarr", True),
        ("zip://::/data/a.zarr.zip", "/data/a.zarr", False),
        ("zip://::https://h/a.zip", "/data/a.zarr", True),
    ],
)
def test_servers_of_an_image_and_its_labels(where, base, other):
    assert on_another_server(to_path(where), to_path(base)) == other


def test_zip_file_with_the_folder_of_a_zarr(tmp_path):
    data = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    zarr.create_array(tmp_path / "in" / "store.zarr", data=data, chunks=(32, 32))
    archive = shutil.make_archive(tmp_path / "a", "zip", tmp_path / "in")
    path = shutil.move(archive, tmp_path / "a.zarr.zip")
    image = open_image(path)
    np.testing.assert_array_equal(image.read(Roi(0, 0, 64, 48)).data[..., 0], data)


def test_damaged_zip_file_is_reported(tmp_path):
    path = tmp_path / "a.zarr.zip"
    path.write_bytes(b"PK" + b"0" * 100)
    with pytest.raises(OpenError, match=r"a\.zarr\.zip is not a zip file"):
        open_image(path)
