"""Reader of PNG, JPEG and other formats without tiles, which are decoded whole."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.chunk_cache import ArraySource
from napari_uhrseg.io.image.from_array import image_of_arrays
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.readers import fingerprint_file, register_reader

MAX_PIXELS = 1_000_000_000  # pixels of the largest picture that is decoded
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm")
_opening = threading.Lock()  # Pillow's limit applies to the whole process


@register_reader(*SUFFIXES, title="PNG or JPEG")
def open_plain(path: Path, series: int | None = None) -> Image:
    """Open a picture, rotated by its EXIF orientation.

    These formats cannot be read in part. The memory is 4/3 of the decoded picture.

    Raises
    ------
    OpenError
        If the picture cannot be decoded, or has more than 1,000 megapixels.
    """
    array, alpha, palette = _decoded(path)
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


def _decoded(path: Path) -> tuple[Any, bool, _Palette | None]:
    """Return (y, x) or (y, x, samples), whether the last is alpha, and the palette."""
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with _open(path) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                raise OpenError(
                    f"{path.name} has {width * height / 1e6:,.0f} megapixels, which "
                    f"{file.format} can only give whole.",
                    "Convert it to a tiled TIFF: gdal_translate -co TILED=YES, or "
                    "vips tiffsave --tile --pyramid.",
                )
            file.load()
            upright = ImageOps.exif_transpose(file)
            picture, palette = _plain_mode(upright), _palette(upright)
            if path.suffix.lower() == ".png" and picture.mode in ("RGB", "RGBA"):
                return *_sixteen_bits(path, picture), palette
            return np.asarray(picture), picture.mode in ("LA", "RGBA"), palette
    except UnidentifiedImageError as error:
        raise OpenError(
            f"{path.name} is not a picture of a known format.",
            "Its name may be wrong, or the copy damaged: get it again.",
        ) from error
    except (OSError, SyntaxError) as error:
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


def _sixteen_bits(path: Path, picture: Any) -> tuple[Any, bool]:
    """Decode a PNG of 16 bits per sample, which Pillow reduces to 8."""
    import imagecodecs

    with path.open("rb") as file:
        depth = file.read(25)[24]
    array = imagecodecs.png_decode(path.read_bytes()) if depth == 16 else picture
    array = np.asarray(array)
    return array, array.shape[-1] == 4
