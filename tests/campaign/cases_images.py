"""Cases after reports against tifffile and Bio-Formats."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from campaign.report import case
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

GREY = np.random.default_rng(1).integers(0, 255, (203, 301), np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)


def pixels(image: Image, **plane: int) -> np.ndarray:
    """Return all pixels of level 0, (y, x, bands)."""
    image = image.with_plane(**plane) if plane else image
    return image.read(Roi(0, 0, *image.shape)).data


def opened(path: Path, data: np.ndarray, **options: Any) -> Image:
    """Write a TIFF, open it, and compare its pixels with the data."""
    tifffile.imwrite(path, data, **options)
    image = open_image(path)
    found = pixels(image)
    wanted = data if data.ndim == 3 else data[..., None]
    np.testing.assert_array_equal(found, wanted)
    return image


def ome(folder: Path, pixels_tag: str, data: np.ndarray, images: str = "") -> Path:
    """Write an OME-TIFF with XML of our own; return its path."""
    path = folder / "a.ome.tif"
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org'
        f'/Schemas/OME/2016-06"><Image ID="Image:0">{pixels_tag}</Image>{images}</OME>'
    )
    tifffile.imwrite(
        path, data, description=text.encode(), metadata=None, photometric="minisblack"
    )
    return path


def ome_pixels(attributes: str = "", sizes: tuple[int, int, int] = (1, 1, 1)) -> str:
    """Return the element Pixels of an image of uint8, with sizes C, Z and T."""
    c, z, t = sizes
    channels = "".join(f'<Channel ID="Channel:0:{k}"/>' for k in range(c))
    return (
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="301" '
        f'SizeY="203" SizeC="{c}" SizeZ="{z}" SizeT="{t}" {attributes}>{channels}'
        f"<TiffData/></Pixels>"
    )


# -- tifffile -------------------------------------------------------------------------


@case("tifffile", "planar RGB, LZW with predictor, tiles", "equal pixels")
def planar_tiles(folder: Path) -> None:
    path = folder / "a.tif"
    tifffile.imwrite(
        path, COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
        compression="lzw", predictor=True, tile=(64, 64),
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(open_image(path)), COLOUR)


@case("tifffile", "big-endian float32 with floating-point predictor", "equal values")
def predictor_big_endian(folder: Path) -> None:
    data = GREY.astype(np.float32) / 7
    opened(folder / "a.tif", data, byteorder=">", predictor=3, compression="deflate")


@case("tifffile", "planar float32 with floating-point predictor", "equal values")
def predictor_planar(folder: Path) -> None:
    data, path = (COLOUR / 7).astype(np.float32), folder / "a.tif"
    tifffile.imwrite(
        path, data.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
        predictor=3, compression="zstd",
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(open_image(path)), data)


@case("tifffile", "float16 pixels", "equal values")
def half_floats(folder: Path) -> None:
    opened(folder / "a.tif", (GREY / 7).astype(np.float16))


@case("tifffile", "bilevel image (1 bit)", "values 0 and 1")
def bilevel(folder: Path) -> None:
    path = folder / "a.tif"
    tifffile.imwrite(path, GREY > 128, photometric="minisblack")
    np.testing.assert_array_equal(pixels(open_image(path))[..., 0] > 0, GREY > 128)


@case("tifffile", "int8 pixels in packbits strips", "negative values")
def signed_bytes(folder: Path) -> None:
    opened(folder / "a.tif", GREY.astype(np.int8), compression="packbits")


@case("tifffile", "rows per strip above the height", "equal pixels")
def tall_strip(folder: Path) -> None:
    opened(folder / "a.tif", GREY, rowsperstrip=4000, compression="deflate")


@case("tifffile", "big-endian BigTIFF of uint16 tiles", "equal pixels")
def big_endian(folder: Path) -> None:
    data = GREY.astype(np.uint16) * 257
    opened(folder / "a.tif", data, bigtiff=True, byteorder=">", tile=(64, 64))


@case("tifffile", "RGB with two unspecified extra samples", "five bands")
def extra_samples(folder: Path) -> None:
    path, data = folder / "a.tif", np.concatenate([COLOUR, COLOUR[..., :2]], -1)
    tifffile.imwrite(path, data, photometric="rgb", extrasamples=(0, 0))
    np.testing.assert_array_equal(pixels(open_image(path)), data)


@case("tifffile", "grey with unassociated alpha, 16 bits", "one band, alpha decides")
def grey_alpha(folder: Path) -> None:
    path, alpha = folder / "a.tif", np.where(GREY > 99, 65535, 0)
    data = np.stack([GREY, alpha], -1).astype(np.uint16)
    tifffile.imwrite(
        path, data, photometric="minisblack", planarconfig="contig",
        extrasamples=("unassalpha",),
    )  # fmt: skip
    found = open_image(path).read(Roi(0, 0, 203, 301))
    assert found.data.shape[-1] == 1
    np.testing.assert_array_equal(found.valid, GREY > 99)


@case("tifffile", "palette whose colour map uses 0 to 255 only", "colours not black")
def small_palette(folder: Path) -> None:
    path = folder / "a.tif"
    table = np.tile(np.arange(256, dtype=np.uint16), (3, 1))
    tifffile.imwrite(path, GREY, photometric="palette", colormap=table)
    image = open_image(path)
    if image.colormap:
        colours = [image.colormap[int(v)][0] for v in GREY[0]]
        np.testing.assert_array_equal(colours, GREY[0])
    else:
        np.testing.assert_array_equal(pixels(image)[..., 0], GREY)


@case("tifffile", "pyramid in SubIFDs with odd sizes, rounded down", "same place")
def odd_pyramid(folder: Path) -> None:
    path, ramp = folder / "a.tif", np.zeros((901, 701), np.uint8)
    ramp[600:, 400:] = 200
    with tifffile.TiffWriter(path) as file:
        file.write(ramp, subifds=1, tile=(64, 64))
        file.write(ramp[:900:2, :700:2], tile=(64, 64), subfiletype=1)
    found = open_image(path).read(Roi(0, 0, 901, 701), (451, 351)).data[..., 0]
    assert found[303:, 203:].min() == 200
    assert found[:298].max() == 0


@case("tifffile", "pages of different sizes", "the largest opens, all are listed")
def many_sizes(folder: Path) -> None:
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for size in (20, 150, 60):
            file.write(GREY[:size, :size], contiguous=False, metadata=None)
    image = open_image(path)
    assert image.shape == (150, 150)
    assert len(image.series) == 3


@case("tifffile", "ImageJ hyperstack TZCYX in microns", "0.5 µm, each plane right")
def imagej_stack(folder: Path) -> None:
    path = folder / "a.tif"
    data = np.arange(2 * 3 * 2, dtype=np.uint8).reshape(2, 3, 2, 1, 1)
    data = data + np.zeros((203, 301), np.uint8)
    tifffile.imwrite(
        path, data, imagej=True, resolution=(2, 2),
        metadata={"unit": "micron", "axes": "TZCYX"},
    )  # fmt: skip
    image = open_image(path)
    assert image.pixel_size == (0.5, 0.5)
    assert pixels(image, t=1, z=2)[0, 0].tolist() == [10, 11]


@case("tifffile", "ImageJ unit written as \\u00B5m", "2.5 µm")
def imagej_micro_sign(folder: Path) -> None:
    image = opened(
        folder / "a.tif", GREY, imagej=True, resolution=(0.4, 0.4),
        metadata={"unit": "\\u00B5m"},
    )  # fmt: skip
    assert image.pixel_size == pytest.approx((2.5, 2.5))


@case("tifffile", "ImageJ unit pixel, resolution 1", "unknown size")
def imagej_pixels(folder: Path) -> None:
    image = opened(
        folder / "a.tif", GREY, imagej=True, resolution=(1, 1),
        metadata={"unit": "pixel"},
    )  # fmt: skip
    assert image.pixel_size is None


@case("tifffile", "ImageJ units cm, mm, nm, inch", "the size in µm, or unknown")
def imagej_units(folder: Path) -> None:
    for unit, size in (("cm", 1e4), ("mm", 1e3), ("nm", 1e-3), ("inch", 25_400.0)):
        path = folder / f"{unit}.tif"
        image = opened(
            path, GREY, imagej=True, resolution=(2, 2), metadata={"unit": unit}
        )
        found = image.pixel_size
        assert found is None or found == pytest.approx((size / 2, size / 2)), unit


@case("tifffile", "resolutions of x and y differ", "height and width not swapped")
def uneven_resolution(folder: Path) -> None:
    image = opened(
        folder / "a.tif", GREY, resolution=(2e4, 1e4), resolutionunit="CENTIMETER"
    )
    assert image.pixel_size == pytest.approx((1.0, 0.5))


@case("tifffile", "resolution without a unit, or 0/0", "unknown size")
def no_resolution(folder: Path) -> None:
    for number, unit in ((20_000, "NONE"), (0, "CENTIMETER")):
        path = folder / f"{number}.tif"
        image = opened(path, GREY, resolution=(number, number), resolutionunit=unit)
        assert image.pixel_size is None


@case("tifffile", "float image with NaN, all NaN, or constant", "finite limits")
def odd_floats(folder: Path) -> None:
    for number, value in enumerate((np.nan, np.inf, 3.0)):
        data = np.full((203, 301), value, np.float32)
        if number == 0:
            data[:100] = 5
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, data)
        low, high = open_image(path).contrast_limits
        assert np.isfinite([low, high]).all()
        assert low < high


@case("tifffile", "tiles in JPEG XL, WebP and LERC", "equal pixels")
def new_codecs(folder: Path) -> None:
    lossless: dict = {"lossless": True}
    codecs = {"jpegxl": lossless, "webp": lossless, "lerc": {}, "png": {}}
    for codec, options in codecs.items():
        opened(
            folder / f"{codec}.tif", COLOUR, photometric="rgb", tile=(64, 64),
            compression=codec, compressionargs=options,
        )  # fmt: skip


@case("tifffile", "uint64 values above 2^53", "exact values, or a refusal")
def large_integers(folder: Path) -> None:
    data = GREY.astype(np.uint64) + np.uint64(2**60)
    with contextlib.suppress(UhrSegError):
        opened(folder / "a.tif", data)


@case("tifffile", "JPEG in CMYK of Adobe; EXIF orientation 6", "colours of Pillow")
def adobe_jpeg(folder: Path) -> None:
    path = folder / "a.jpg"
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(COLOUR).convert("CMYK").save(path, exif=exif, quality=95)
    with Pillow.open(path) as file:
        wanted = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    np.testing.assert_array_equal(pixels(open_image(path)), wanted)


# -- Bio-Formats ----------------------------------------------------------------------


@case("Bio-Formats", "dimension orders XYZCT and XYCZT", "each plane right")
def dimension_orders(folder: Path) -> None:
    base = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1)
    for axes in ("CZYX", "ZCYX"):
        path = folder / f"{axes}.ome.tif"
        data = base + np.zeros((203, 301), np.uint8)
        order = data if axes == "CZYX" else data.transpose(1, 0, 2, 3)
        tifffile.imwrite(path, order, metadata={"axes": axes})
        assert pixels(open_image(path), z=2)[0, 0].tolist() == [2, 5], axes


@case("Bio-Formats", "PhysicalSize in nm, mm, cm", "the size in µm")
def physical_units(folder: Path) -> None:
    for unit, size in (("nm", 0.108333), ("mm", 108_333.0), ("cm", 1_083_330.0)):
        text = (
            f'PhysicalSizeX="108.333" PhysicalSizeXUnit="{unit}" '
            f'PhysicalSizeY="108.333" PhysicalSizeYUnit="{unit}"'
        )
        image = open_image(ome(folder, ome_pixels(text), GREY))
        assert image.pixel_size == pytest.approx((size, size)), unit
        assert image.unit == "micrometer"


@case("Bio-Formats", "only PhysicalSizeX; a size of 0", "unknown, or square")
def physical_size_half(folder: Path) -> None:
    image = open_image(ome(folder, ome_pixels('PhysicalSizeX="0.5"'), GREY))
    assert image.pixel_size in (None, (0.5, 0.5))
    zero = 'PhysicalSizeX="0" PhysicalSizeY="0"'
    assert open_image(ome(folder, ome_pixels(zero), GREY)).pixel_size is None


@case("Bio-Formats", "channel names in OME-XML", "bands of these names")
def channel_names(folder: Path) -> None:
    path = folder / "a.ome.tif"
    about: dict = {"axes": "CYX", "Channel": {"Name": ["DAPI", "Cy3"]}}
    tifffile.imwrite(path, np.stack([GREY, GREY]), metadata=about)
    assert [b.name for b in open_image(path).bands] == ["DAPI", "Cy3"]


@case("Bio-Formats", "RGB as one channel of three samples", "three bands in colour")
def samples_per_pixel(folder: Path) -> None:
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, COLOUR, photometric="rgb", metadata={"axes": "YXS"})
    image = open_image(path)
    assert image.rgb
    np.testing.assert_array_equal(pixels(image), COLOUR)


@case("Bio-Formats", "two channels of three samples", "each sample once, or refused")
def channels_of_samples(folder: Path) -> None:
    path, data = folder / "a.ome.tif", np.stack([COLOUR, 255 - COLOUR])
    tifffile.imwrite(path, data, photometric="rgb", metadata={"axes": "CYXS"})
    try:
        image = open_image(path)
    except UhrSegError:
        return
    np.testing.assert_array_equal(pixels(image)[..., :3], COLOUR)


@case("Bio-Formats", "XML says int16, tags say uint8", "the type of the tags")
def wrong_type(folder: Path) -> None:
    text = ome_pixels().replace('"uint8"', '"int16"')
    image = open_image(ome(folder, text, GREY))
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY)


@case("Bio-Formats", "XML says BigEndian, file is little-endian", "equal pixels")
def wrong_endian(folder: Path) -> None:
    image = open_image(ome(folder, ome_pixels('BigEndian="true"'), GREY))
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY)


@case("Bio-Formats", "XML says three channels, file has one page", "one page, warning")
def missing_planes(folder: Path) -> None:
    image = open_image(ome(folder, ome_pixels(sizes=(3, 1, 1)), GREY))
    found = pixels(image)
    np.testing.assert_array_equal(found[..., 0], GREY)
    assert found.shape[-1] == 1 or image.warnings


@case("Bio-Formats", "two images of one OME-TIFF", "the size of the second")
def second_image(folder: Path) -> None:
    path = folder / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        for size in (0.5, 0.25):
            about = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
            file.write(GREY if size > 0.3 else GREY[:99, :99], metadata=about)
    image = open_image(path, series=1)
    assert image.shape == (99, 99)
    assert image.pixel_size == (0.25, 0.25)


@case("Bio-Formats", "time series of one channel", "each time selectable")
def time_series(folder: Path) -> None:
    path = folder / "a.ome.tif"
    data = np.stack([GREY, 255 - GREY, GREY // 2])
    tifffile.imwrite(path, data, metadata={"axes": "TYX"})
    np.testing.assert_array_equal(pixels(open_image(path), t=2)[..., 0], GREY // 2)
