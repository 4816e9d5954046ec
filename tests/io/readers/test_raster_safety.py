"""Raster files cause no request and read nothing outside their folder."""

import socket
from contextlib import closing
from html import escape

import numpy as np
import pytest
import rasterio
import tifffile

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

PIXELS = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64)


@pytest.fixture
def server():
    """Address of a server that counts who connects, and answers nobody."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listening,
        rasterio.Env(GDAL_HTTP_TIMEOUT=1),
    ):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.settimeout(0)
        with pytest.raises(BlockingIOError):
            listening.accept()


def tiff(path, pixels=PIXELS):
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=pixels.shape[1],
        width=pixels.shape[2], dtype=pixels.dtype, crs="EPSG:32632",
        transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6),
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def vrt(path, source, *, relative=1, band="", root="", inside=""):
    path.write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64" {root}>{inside}'
        f'<VRTRasterBand dataType="Byte" band="1" {band}><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def raw_vrt(path, source):
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64">'
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="1">{source}</SourceFilename>'
        "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
        "<LineOffset>64</LineOffset></VRTRasterBand></VRTDataset>"
    )
    return path


def web_map(url):
    return (
        f"<GDAL_WMS><Service name='TMS'><ServerUrl>{url}/${{z}}/${{x}}/${{y}}.png"
        "</ServerUrl></Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0"
        "</UpperLeftY><LowerRightX>64</LowerRightX><LowerRightY>64</LowerRightY>"
        "<SizeX>64</SizeX><SizeY>64</SizeY><TileLevel>0</TileLevel></DataWindow>"
        "<BlockSizeX>64</BlockSizeX><BlockSizeY>64</BlockSizeY>"
        "<BandsCount>1</BandsCount></GDAL_WMS>"
    )


def refused(path, *words):
    with pytest.raises(OpenError) as error:
        open_image(path)
    for word in (path.name, *words):
        assert word in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize("name", ["a.tif", "a.vrt", "a.jp2", "a.img"])
def test_descriptions_of_web_services_are_refused(tmp_path, server, name):
    path = tmp_path / name
    path.write_text(web_map(server))
    refused(path)


def test_vrt_with_address_is_refused(tmp_path, server):
    for source in (
        f"{server}/a.tif",
        f"/vsicurl/{server}/a.tif",
        escape(web_map(server)),
        "WMS:" + server,
    ):
        for relative in (0, 1):
            path = vrt(tmp_path / "a.vrt", source, relative=relative)
            refused(path, "not a file in the folder")


def test_vrt_in_vrt_with_address_is_refused(tmp_path, server):
    vrt(tmp_path / "inner.vrt", f"/vsicurl/{server}/a.tif", relative=0)
    refused(vrt(tmp_path / "outer.vrt", "inner.vrt"), "not a file in the folder")
    (tmp_path / "map.tif").write_text(web_map(server))
    refused(vrt(tmp_path / "map.vrt", "map.tif"), "map.tif", "not a raster")
    jpeg = b"\xff\xd8\xff\xfeAA" + (tmp_path / "inner.vrt").read_bytes()
    (tmp_path / "both.jpg").write_bytes(jpeg)
    refused(vrt(tmp_path / "both.vrt", "both.jpg"), "both.jpg", "not a raster")


@pytest.mark.parametrize(
    "change",
    [
        {"root": 'SourceFilename="/etc/hosts"'},
        {"band": 'subClass="VRTOther"'},
        {"inside": "<OpenOptions><OOI key='ROOT_PATH'>/etc</OOI></OpenOptions>"},
        {"inside": "<sourcefilename>/etc/hosts</sourcefilename>"},
        {"inside": "<SRS>http://127.0.0.1:9/crs</SRS>"},
        {"inside": "<![CDATA[x]]>"},
    ],
)
def test_unknown_parts_of_a_vrt_are_refused(tmp_path, change):
    tiff(tmp_path / "a.tif")
    refused(vrt(tmp_path / "a.vrt", "a.tif", **change), "does not open")


def test_files_outside_the_folder_are_refused(tmp_path):
    folder = tmp_path / "received"
    folder.mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_bytes(bytes(4096))
    (folder / "link.bin").symlink_to(secret)
    for source in ("../secret.txt", str(secret), "link.bin", "/etc/hosts"):
        refused(raw_vrt(folder / "a.vrt", source), "not a file in the folder")
    outside = tiff(tmp_path / "outside.tif")
    refused(vrt(folder / "b.vrt", outside, relative=0), "not a file in the folder")


def test_files_inside_the_folder_open(tmp_path, monkeypatch):
    (tmp_path / "tiles").mkdir()
    source = tiff(tmp_path / "tiles" / "a.tif")
    (tmp_path / "tiles" / "raw.bin").write_bytes(PIXELS.tobytes())
    vrt(tmp_path / "tiles" / "inner.vrt", "a.tif")
    comment = "<!-- made by hand --><Metadata><MDI key='a'>http://b</MDI></Metadata>"
    for path in (
        vrt(tmp_path / "a.vrt", "tiles/a.tif", inside=comment),
        vrt(tmp_path / "b.vrt", source, relative=0),
        vrt(tmp_path / "c.vrt", "tiles/inner.vrt"),
        raw_vrt(tmp_path / "d.vrt", "tiles/raw.bin"),
    ):
        found = open_image(path).read(Roi(0, 0, 64, 64)).data[..., 0]
        np.testing.assert_array_equal(found, PIXELS[0])
    monkeypatch.chdir(tmp_path)  # a plain name is relative to the working folder
    assert open_image(vrt(tmp_path / "e.vrt", "tiles/a.tif", relative=0)).shape


def test_missing_sources_are_named(tmp_path):
    tiff(tmp_path / "a.tif")
    path = vrt(tmp_path / "a.vrt", "gone.tif")
    refused(path, "missing", "gone.tif")


def test_overviews_and_masks_that_are_no_rasters_are_refused(tmp_path, server):
    for suffix, text in (
        (".ovr", web_map(server)),
        (".OVR", web_map(server)),
        (".msk", web_map(server)),
        (".ovr", vrt(tmp_path / "x", f"/vsicurl/{server}/a.tif").read_text()),
    ):
        path = tiff(tmp_path / "a.tif")
        beside = tmp_path / f"a.tif{suffix}"
        beside.write_text(text)
        refused(path)
        vrt(tmp_path / "a.vrt", "a.tif")
        refused(tmp_path / "a.vrt")
        beside.unlink()


def test_overviews_named_in_metadata_are_checked(tmp_path, server):
    url = f"/vsicurl/{server}/a.tif"
    path = tiff(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=url)
    refused(path, "not a file in the folder")
    path = tiff(tmp_path / "b.tif")
    tiff(tmp_path / "half.ovr", PIXELS[:, ::2, ::2])
    (tmp_path / "b.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        ":::BASE:::half.ovr</MDI></Metadata></PAMDataset>"
    )
    assert open_image(path).downsamples == (1, 2)
    tifffile.imwrite(
        tmp_path / "half.ovr", PIXELS[0, ::2, ::2], metadata=None, extratags=[
            (42112, 2, 0, '<GDALMetadata><Item name="OVERVIEW_FILE" '
             f'domain="OVERVIEWS">{url}</Item></GDALMetadata>', True),
        ],
    )  # fmt: skip
    refused(path, "not a file in the folder")


def test_more_bands_than_can_be_opened_are_refused(tmp_path):
    path, bands = tmp_path / "many.tif", np.zeros((2, 2, 10_001), np.uint8)
    position = [(33550, 12, 3, (1.0, 1.0, 0.0)), (33922, 12, 6, (0.0,) * 6)]
    tifffile.imwrite(
        path, bands, photometric="minisblack", planarconfig="contig",
        extratags=[(*tag, True) for tag in position],
    )  # fmt: skip
    with pytest.raises(OpenError, match="states 10,001 bands; at most 10,000"):
        open_image(path)
