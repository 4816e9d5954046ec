"""Function that opens image files of any supported format."""

from contextlib import suppress
from pathlib import PurePath

from napari_uhrseg.errors import OpenError, ReadError, without_credentials
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl, to_path
from napari_uhrseg.io.readers.choice import read_any
from napari_uhrseg.types import Limits


def open_image(
    path: str | PathOrUrl, *, series: int | None = None, limits: Limits = Limits()
) -> Image:
    """Open an image file of any supported format without reading all of it.

    One tile is decoded to check that the file is readable.

    Parameters
    ----------
    path
        File, or the folder of an OME-Zarr or DICOM image. OME-Zarr and
        TIFF can also be a URL that fsspec supports.
    series
        Index of the image in a file with several images. The default is the largest.
    limits
        Bounds of the reader.

    Returns
    -------
    Image
        The image, with the levels that earlier sessions computed.

    Raises
    ------
    OpenError
        If the file cannot be opened. The hint proposes a solution.
    """
    # zarr takes long to import, and the panel opens before it is needed
    from napari_uhrseg.io.image.pyramid_builder import attach_levels

    try:
        image = read_any(to_path(path), series, limits)
        name = image.name or PurePath(str(path)).name  # a zip file has no inner name
        image.name = without_credentials(name)
        image.warnings = tuple(map(without_credentials, image.warnings))
        with suppress(ReadError):  # the image is usable without its cached pyramid
            attach_levels(image)
        return image
    except MemoryError as error:
        raise OpenError(
            f"{path} needs more memory than is available.",
            "Close other programs, or convert the image to a tiled format.",
        ) from error
