"""Reader of PNG, JPEG and other formats without tiles, which are decoded whole."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.from_array import image_of_arrays
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import Array, ArraySource
from napari_uhrseg.io.image.pixel_transforms import Reoriented
from napari_uhrseg.io.readers.common import fingerprint_file
from napari_uhrseg.io.readers.registry import RefusedError, register_reader
from napari_uhrseg.main_memory import free_main_memory
from napari_uhrseg.types import Limits
from napari_uhrseg.units import format_bytes, formatted

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm")
ORIENTATION = 274  # EXIF tag
GREY_BYTES, COLOUR_BYTES = 5, 12  # main memory per pixel of 8 bits while decoding
_opening = threading.Lock()  # Pillow's limit applies to the whole process


@register_reader(*SUFFIXES, title="PNG or JPEG")
def open_plain(
    path: Path, series: int | None = None, limits: Limits = Limits()
) -> Image:
    """Open a picture, rotated by its EXIF orientation.

    These formats cannot be read in part.

    Parameters
    ----------
    path
        File of the picture.
    series
        Ignored, since the file has one picture.
    limits
        Its ``picture_bytes`` bound the memory.

    Raises
    ------
    OpenError
        If the picture cannot be decoded, or needs too much main memory.
    """
    array, alpha, palette = _decoded(path, limits.picture_bytes)
    rgb = array.ndim == 3 and array.shape[-1] >= 3
    axes = "yxs" if array.ndim == 3 else "yx"
    image = image_of_arrays([array], name=path.name, rgb=rgb, axes=axes)
    image.path, image.fingerprint = path, fingerprint_file(path)
    image.alpha = array.shape[-1] - 1 if alpha else None
    image.bands = image.bands[: array.shape[-1] - alpha if array.ndim == 3 else 1]
    if palette is not None:
        image.indices, image.colormap = ArraySource(palette.indices), palette.table
    return image


class _Palette(NamedTuple):
    """Indices (y, x) of a picture with a colour table, and the table as RGBA."""

    indices: Any
    table: dict[int, tuple[int, int, int, int]]


def _decoded(path: Path, most: int | None) -> tuple[Array, bool, _Palette | None]:
    """Return (y, x) or (y, x, samples), whether the last is alpha, and the palette."""
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with _open(path) as file:
            depth = _png_depth(path) if file.format == "PNG" else 8
            _check_memory(path, file, depth, most)
            if _needs_png_decoder(file, depth):
                return *_upright(_by_imagecodecs(path), _orientation(file)), None
            file.load()
            ImageOps.exif_transpose(file, in_place=True)
            picture, palette = _plain_mode(file), _palette(file)
            return np.asarray(picture), picture.mode in ("LA", "RGBA"), palette
    except UnidentifiedImageError as error:
        raise OpenError(
            f"{path.name} is not a picture of a known format.",
            "Its name may be wrong, or the copy damaged: get it again.",
        ) from error
    except (OSError, SyntaxError, RuntimeError) as error:
        raise OpenError(
            f"{path.name} cannot be decoded: {error}.",
            "The file may be damaged or incomplete: copy it again.",
        ) from error


def _open(path: Path) -> Any:
    """Open a picture without Pillow's limit of 179 megapixels."""
    from PIL import Image as Pillow

    with _opening:
        limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            return Pillow.open(path)
        finally:
            Pillow.MAX_IMAGE_PIXELS = limit


def _check_memory(path: Path, file: Any, depth: int, most: int | None) -> None:
    """Raise RefusedError if decoding a picture takes too much main memory.

    The bytes per pixel were measured; they include copies and the coarser levels.
    """
    width, height = file.size
    pixel = COLOUR_BYTES if len(file.getbands()) > 1 or file.mode == "P" else GREY_BYTES
    needed = width * height * pixel * (2 if depth == 16 else 1)
    most = free_main_memory() // 2 if most is None else most
    if needed > most:
        raise RefusedError(
            f"{path.name} has {formatted(width)} x {formatted(height)} pixels, which "
            f"{file.format} can "
            f"only give whole: that needs up to {format_bytes(needed)} of main memory, "
            f"of which {format_bytes(most)} may be used.",
            "Convert it to a tiled TIFF: gdal_translate -co TILED=YES, or "
            "vips tiffsave --tile --pyramid.",
        )


def _palette(picture: Any) -> _Palette | None:
    """Return the indices and the colour table of a picture, if it has a table."""
    if picture.mode != "P":
        return None
    copy = picture.copy()
    copy.apply_transparency()  # into the alpha of the table
    flat = copy.getpalette("RGBA")
    colors = [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]
    return _Palette(np.asarray(picture), dict(enumerate(colors)))


def _plain_mode(picture: Any) -> Any:
    """Convert palettes and other colour spaces to RGB or RGBA."""
    if picture.mode == "PA" or (picture.mode == "P" and "transparency" in picture.info):
        return picture.convert("RGBA")
    if picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
        return picture.convert("RGB")
    return picture


def _png_depth(path: Path) -> int:
    """Return the bits per sample of a PNG file."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _needs_png_decoder(file: Any, depth: int) -> bool:
    """Return whether Pillow would reduce samples to 8 bits or leave out opacity."""
    if file.format != "PNG" or file.mode == "P":
        return False
    return depth == 16 or "transparency" in file.info


def _by_imagecodecs(path: Path) -> tuple[Array, bool]:
    import imagecodecs

    array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    return array, array.ndim == 3 and array.shape[-1] in (2, 4)


def _orientation(file: Any) -> int:
    return int(file.getexif().get(ORIENTATION, 1))


def _upright(decoded: tuple[Array, bool], orientation: int) -> tuple[Array, bool]:
    """Return the decoded picture in its orientation by EXIF."""
    array, alpha = decoded
    if not 2 <= orientation <= 8:
        return array, alpha
    axes = "yxs" if array.ndim == 3 else "yx"
    turned = Reoriented(ArraySource(array), axes, orientation)
    return turned[tuple(slice(0, n) for n in turned.shape)], alpha
