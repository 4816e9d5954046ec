"""Opening an image file of any supported format."""

from contextlib import suppress

from napari_uhrseg.errors import OpenError, ReadError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.pyramid_builder import attach_levels
from napari_uhrseg.io.paths import Address, to_path
from napari_uhrseg.io.readers import read_any


def open_image(path: str | Address, *, series: int | None = None) -> Image:
    """Open an image file of any supported format, without reading it.

    One tile is decoded to see that the file can be read.

    Parameters
    ----------
    path
        A file, or the folder of an OME-Zarr or DICOM image; of OME-Zarr and TIFF
        also a URL that fsspec knows.
    series
        Which image, where the file holds several (default the largest).

    Raises
    ------
    OpenError
        With what is wrong and what can be done about it.
    """
    try:
        image = read_any(to_path(path), series)
        with suppress(ReadError):  # a cache that cannot be used is no obstacle
            attach_levels(image)
        return image
    except MemoryError as error:
        raise OpenError(
            f"{path} needs more memory than there is.",
            "Close other programs, or convert the image to a tiled format.",
        ) from error
