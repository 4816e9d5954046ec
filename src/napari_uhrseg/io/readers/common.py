"""Functions that several readers share: fingerprint, trial decoding, kind of folder."""

import hashlib

from napari_uhrseg.errors import OpenError, ReadError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import ZARR_MARKS, PathOrUrl, is_url
from napari_uhrseg.io.readers.archive import DOWNLOAD
from napari_uhrseg.types import Roi

NOT_TILED = (
    "This file is not tiled: it is converted once, in the background. "
    "Until then what is not converted shows as grey."
)
RASTER = "a raster"  # title of the reader that uses files beside an image
NO_RANGES = "the server does not give parts of files"


def fingerprint_file(path: PathOrUrl) -> str:
    """Return a hash of a file's size and of its first and last 64 KiB."""
    size, piece = path.stat().st_size, 65536
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(piece))
        file.seek(max(0, size - piece))
        digest.update(file.read(piece))
    return digest.hexdigest()[:32]


def probe(image: Image) -> None:
    """Decode one tile in the middle of level 0.

    Raises
    ------
    OpenError
        If the tile cannot be decoded.
    """
    height, width = image.shape
    try:
        image.read(Roi(height // 2, width // 2, 1, 1))
    except ReadError as error:
        hint = (
            "The file may be damaged, or compressed in a way that is not supported: "
            "copy it again, or convert it to a tiled TIFF."
        )
        if NO_RANGES in error.message:
            hint = DOWNLOAD
        raise OpenError(
            f"{image.name} opens, but its pixels cannot be decoded: {error.message}",
            hint,
        ) from error


def is_zarr(path: PathOrUrl) -> bool:
    """Return whether a folder is a zarr store.

    Raises
    ------
    OSError
        If a URL cannot be reached.
    """
    # the address of a file in a chain, such as zip://a::https://b?c, may have a query
    if (
        is_url(path) and "?" in str(path).partition("::")[0]
    ):  # a file, to which nothing can be added
        return False
    try:
        return any((path / mark).exists() for mark in ZARR_MARKS)
    except OSError:
        if is_url(path):
            raise
        return False
