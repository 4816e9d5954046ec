"""``napari-uhrseg info``, ``--help`` and errors in words."""

import json

import pytest
from typer.testing import CliRunner

from helpers.processes import run_python
from napari_uhrseg import __version__
from napari_uhrseg.cli import app


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_info_image(files):
    result = invoke("info", files / "picture.tif")
    assert result.exit_code == 0, result.output
    assert "420 x 300 pixels, uint8" in result.stdout
    assert "RGB" in result.stdout


def test_info_image_as_json(files):
    facts = json.loads(invoke("info", files / "picture.tif", "--json").stdout)
    assert facts["shape"] == [300, 420]
    assert facts["rgb"] is True
    assert facts["crs"] is None


def test_info_checkpoint_card(files):
    result = invoke("info", files / "net.safetensors")
    assert result.exit_code == 0, result.output
    assert "small net" in result.stdout
    assert "dark, light" in result.stdout
    card = json.loads(invoke("info", files / "net.safetensors", "--json").stdout)
    assert card["model"] == "plain"
    assert card["legend"]["classes"][1]["name"] == "light"


@pytest.mark.parametrize("name", ["nothing.tif", "nothing.safetensors", "text.tif"])
def test_info_invalid_file_prints_message(tmp_path, name):
    (tmp_path / "text.tif").write_text("not an image")
    result = invoke("info", tmp_path / name)
    assert result.exit_code == 1
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) >= 2  # what happened, what to do
    assert not result.stdout
    assert "Traceback" not in result.output


def test_version_and_help():
    assert __version__ in invoke("--version").stdout
    assert "segment" in invoke("--help").stdout


HELP = """
import sys
from napari_uhrseg.cli import app
for command in sys.argv[1:]:
    app([command, "--help"], standalone_mode=False)
    print(*{name.split(".")[0] for name in sys.modules})
"""


@pytest.mark.slow
def test_help_imports_neither_torch_nor_qt():
    commands = ("info", "train", "segment", "evaluate", "demo")
    lines = run_python(HELP, *commands).splitlines()
    assert sum("Usage:" in line for line in lines) == len(commands)
    loaded = [set(line.split()) for line in lines if "napari_uhrseg" in line.split()]
    assert len(loaded) == len(commands)
    assert not {"torch", "napari", "qtpy", "zarr"} & set.union(*loaded)


def geotiff(path, **profile):
    import numpy as np
    import rasterio

    pixels = np.ones((2, 600, 800), np.float32)
    options = {"driver": "GTiff", "count": 2, "height": 600, "width": 800,
               "dtype": "float32", "crs": "EPSG:32633", "nodata": -9999,
               "transform": rasterio.Affine(2, 0, 5e5, 0, -2, 5e6)}  # fmt: skip
    with rasterio.open(path, "w", **options | profile) as file:
        file.write(pixels)
    return path


def test_info_position_tiles_and_nodata(tmp_path):
    path = geotiff(tmp_path / "a.tif")
    text = " ".join(invoke("info", path).stdout.split())
    assert "(EPSG:32633)" in text
    assert "x 500000 to 501600, y 4998800 to 5000000" in text
    assert "not tiled" in text
    assert text.count("nodata -9999") == 2
    assert "Rotation" not in text
    facts = json.loads(invoke("info", path, "--json").stdout)
    assert facts["epsg"] == 32633
    assert facts["extent"] == [500_000, 4_998_800, 501_600, 5_000_000]
    assert facts["tiled"] is False
    assert [band["nodata"] for band in facts["bands"]] == [-9999, -9999]
    assert facts["overviews"] == []


def test_info_rotation_and_tiles(tmp_path):
    import rasterio

    turned = rasterio.Affine.rotation(30) * rasterio.Affine.scale(2, -2)
    path = geotiff(
        tmp_path / "a.tif", transform=turned, tiled=True, blockxsize=256, blockysize=256
    )
    text = invoke("info", path).stdout
    assert "30° counterclockwise" in text
    assert "not tiled" not in text
    turned = rasterio.Affine.rotation(-12) * rasterio.Affine.scale(2, -2)
    path = geotiff(tmp_path / "b.tif", transform=turned)
    assert "12° clockwise" in invoke("info", path).stdout


@pytest.mark.slow
def test_info_overviews_that_are_not_in_the_file(tmp_path):
    import numpy as np
    import tifffile

    from napari_uhrseg.io.image.pyramid_builder import fill_levels
    from napari_uhrseg.io.open import open_image

    path = tmp_path / "large.tif"
    data = np.zeros((4200, 4200), np.uint8)
    tifffile.imwrite(path, data, tile=(512, 512), compression="zlib")
    text = " ".join(invoke("info", path).stdout.split())
    assert "1/2, 1/4 (not in the file: not computed yet)" in text
    facts = json.loads(invoke("info", path, "--json").stdout)
    assert facts["overviews"] == ["not computed yet", "not computed yet"]
    for _ in fill_levels(open_image(path)):
        pass
    text = " ".join(invoke("info", path).stdout.split())
    assert "1/2, 1/4 (not in the file: cache)" in text
    facts = json.loads(invoke("info", path, "--json").stdout)
    assert facts["overviews"] == ["cache", "cache"]


def test_info_series_and_warnings(tmp_path):
    import numpy as np
    import tifffile

    path = geotiff(tmp_path / "pages.tif", count=2)
    with tifffile.TiffWriter(path, append=True) as file:
        file.write(np.zeros((30, 40), np.uint8), photometric="minisblack")
    result = invoke("info", path)
    assert "0: image 0, 1: image 1 (shown: 0)" in " ".join(result.stdout.split())
    assert "contains 2 images" in result.stderr
    facts = json.loads(invoke("info", path, "--json", "--series", "1").stdout)
    assert facts["shape"] == [30, 40]
    assert facts["series_number"] == 1
    assert "contains 2 images" in json.loads(invoke("info", path, "--json").stdout)[
        "warnings"
    ][0]  # fmt: skip
    assert invoke("info", path, "--series", "2").exit_code == 1


def test_info_prints_nothing_of_libraries(tmp_path):
    import tifffile

    path = geotiff(tmp_path / "a.tif")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[42113].overwrite("-3.402823e+38")
    assert invoke("info", path).stderr == ""
