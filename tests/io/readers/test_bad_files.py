"""Whatever is wrong with a file, it ends in one clear OpenError."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_uhrseg.errors import OpenError, ReadError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

PIXELS = np.random.default_rng(4).integers(0, 255, (1024, 1024, 3), np.uint8)


@pytest.fixture
def tiled(tmp_path):
    path = tmp_path / "tiled.tif"
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", tile=(128, 128), compression="zstd"
    )
    return path


def refused(path, *words):
    with pytest.raises(OpenError) as error:
        open_image(path)
    for word in (path.name, *words):
        assert word in str(error.value)
    assert error.value.hint


def test_missing_empty_and_unknown(tmp_path):
    refused(tmp_path / "no.tif", "does not exist")
    (tmp_path / "empty.tif").touch()
    refused(tmp_path / "empty.tif", "is empty")
    (tmp_path / "a.docx").write_text("x")
    refused(tmp_path / "a.docx", "no known format", ".svs", ".jp2")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder")


@pytest.mark.parametrize("name", ["a.tif", "a.svs", "a.png", "a.jpg", "a.jp2", "a.vrt"])
def test_text_is_no_image(tmp_path, name):
    (tmp_path / name).write_text("this is a text file\n" * 50)
    refused(tmp_path / name)


def test_a_codec_that_is_not_there(tiled):
    with tifffile.TiffFile(tiled, mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(52479)
    refused(tiled, "decoded")


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3])
def test_cut_before_the_middle_it_is_refused(tiled, share):
    data = tiled.read_bytes()
    tiled.write_bytes(data[: int(len(data) * share)])
    refused(tiled)


def test_cut_near_its_end_it_opens_and_says_so(tiled):
    data = tiled.read_bytes()
    tiled.write_bytes(data[: int(len(data) * 0.8)])
    image = open_image(tiled)
    assert "incomplete" in image.warnings[0]
    told: list[str] = []
    image.on_read_error = told.append
    shown = image.levels[0].compute()
    np.testing.assert_array_equal(shown[:512], PIXELS[:512])
    assert not shown[-10:].any()
    assert len(told) == 1
    with pytest.raises(ReadError):
        image.read(Roi(1000, 1000, 10, 10))


def test_cut_pictures_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        path = tmp_path / name
        Pillow.fromarray(PIXELS).save(path)
        path.write_bytes(path.read_bytes()[:20_000])
        refused(path, "cannot be decoded")


def test_wrong_ome_xml_opens_as_a_plain_tiff(tmp_path):
    path = tmp_path / "a.ome.tif"
    text = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/'
    tifffile.imwrite(
        path, PIXELS[:64, :64], photometric="rgb", metadata=None,
        description=text + 'OME/2016-06"><Image><Pix></OME>',
    )  # fmt: skip
    image = open_image(path)
    assert "OME-XML" in image.warnings[0]
    assert image.shape == (64, 64)


def test_complex_numbers_cannot_be_shown(tmp_path):
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, np.zeros((32, 32), np.complex64))
    refused(path, "complex64")


def test_an_incomplete_file_states_its_bytes(tmp_path):
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb")
    data = path.read_bytes()
    path.write_bytes(data[:1_000_000])
    refused(path, f"it has 1,000,000 of {len(data):,} bytes", "Copy")


@pytest.mark.parametrize("name", ["scan", "scan.gtiff", "scan.geotiff"])
def test_a_tiff_opens_by_its_content(tiled, name):
    image = open_image(tiled.rename(tiled.with_name(name)))
    found = image.read(Roi(9, 9, 50, 50)).data
    np.testing.assert_array_equal(found, PIXELS[9:59, 9:59])
    assert not image.warnings


def test_a_picture_without_a_suffix_opens_by_its_content(tmp_path):
    path = tmp_path / "picture"
    Pillow.fromarray(PIXELS[:40, :40]).save(path, format="png")
    assert open_image(path).shape == (40, 40)


def test_a_tiff_with_another_suffix_is_not_guessed(tiled):
    refused(tiled.rename(tiled.with_name("camera.raw")), "camera.tif")


def test_another_reader_opens_a_file_only_with_a_warning(tmp_path):
    path = tmp_path / "a.tif"  # a GeoTIFF with a codec that GDAL lacks in TIFF files
    tifffile.imwrite(
        path, PIXELS[:64, :64], photometric="rgb", tile=(64, 64), metadata=None,
        compression="jpeg2000", extratags=[(33550, 12, 3, (2.0, 2.0, 0.0), True)],
    )  # fmt: skip
    image = open_image(path)
    assert "opened as TIFF, because as a raster it cannot" in image.warnings[0]
    assert "coordinates" in image.warnings[0]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has no users")
def test_no_permission(tiled):
    readable = tiled.with_name("readable.tif")
    shutil.copy(tiled, readable)
    tiled.chmod(0)
    code = (
        "import os, sys\n"
        "from napari_uhrseg.io.open import open_image\n"
        # loads all it needs: the other user may not see where Python is installed
        "open_image(sys.argv[2])\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: open_image(sys.argv[1])\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )
    for folder in tiled.parents:  # only the file itself is to be out of reach
        if folder.stat().st_uid == os.getuid() and folder.name.startswith(
            ("pytest-", "test_")
        ):
            folder.chmod(0o755)
    found = subprocess.run(
        [sys.executable, "-c", code, str(tiled), str(readable)],
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith("OpenError You may not read"), found


@pytest.mark.parametrize("tag", ["TileLength", "TileWidth"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tile_much_larger_than_the_image(tmp_path, tag, compression):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PIXELS[..., 0], tile=(128, 128), compression=compression)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[tag].overwrite(16711744, dtype="I")
    refused(path, "tiles of", "16711744", "1024 x 1024")


def test_level_wider_than_the_image_is_left_out(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS, tile=(128, 128), subifds=2)
        for step in (2, 4):
            file.write(PIXELS[::step, ::step], tile=(128, 128), subfiletype=1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages.first.pages[1]
        page.tags["ImageWidth"].overwrite(2**32 - 1, dtype="I")
    image = open_image(path)
    assert [level.shape[:2] for level in image.levels] == [(1024, 1024), (512, 512)]
    assert any("1 of 3 levels of a.ome.tif are left out" in w for w in image.warnings)


def test_level_with_fewer_samples_is_left_out(tmp_path):
    path = tmp_path / "a.svs"
    about = "Aperio Image Library v11\n1024x1024 |MPP = 0.5"
    with tifffile.TiffWriter(path) as file:
        for step, text in ((1, about), (8, ""), (2, ""), (4, "")):  # 8: the thumbnail
            pixels = PIXELS[::step, ::step]
            tile = None if step == 8 else (128, 128)
            file.write(pixels, tile=tile, description=text, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[2].tags["SamplesPerPixel"].overwrite(2)
    image = open_image(path)
    assert any("1 of 3 levels of a.svs are left out" in w for w in image.warnings)
    for level in image.levels:
        assert np.asarray(level[:4, :4]).shape == (4, 4, 3)
