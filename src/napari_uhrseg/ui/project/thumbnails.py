"""Thumbnails of images, read from their coarsest level."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.image.composite import default_picture, measured_limits
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.types import Roi

SIDE = 48  # pixels
MAX_PIXELS = 1 << 24  # of the coarsest level that is read; else a part of the image
PART = 1024  # side in pixels of this part, in the middle

Colors = npt.NDArray[np.uint8]


def thumbnails(
    paths: ProjectPaths, images: Iterable[str]
) -> Iterator[tuple[str, Colors | str]]:
    """Yield each image of a project with its thumbnail, or with an error as text.

    Parameters
    ----------
    paths
        Rules to find the images.
    images
        Paths of the images in the project.

    Yields
    ------
    tuple of str and ((h, w, 3) uint8 or str)
        The path, and the colours with sides of at most `SIDE`.
    """
    for path in images:
        try:
            yield path, thumbnail(open_image(paths.image(path)))
        except UhrSegError as error:
            yield path, str(error)


def thumbnail(image: Image) -> Colors:
    """Return the colours of an image, (h, w, 3) uint8 with sides of at most `SIDE`.

    At most `MAX_PIXELS` pixels are read. Without a level that is small enough, the
    middle of the image is shown.
    """
    whole = Roi(0, 0, *image.shape)
    if whole.area / _coarsest(image) ** 2 > MAX_PIXELS:
        y, x = (max(0, (n - PART) // 2) for n in image.shape)
        whole = Roi(y, x, PART, PART).intersect(whole)
    scale = SIDE / max(whole.height, whole.width)
    size = (max(1, round(whole.height * scale)), max(1, round(whole.width * scale)))
    read = image.read(whole, size)
    picture = default_picture(image)
    limits = measured_limits(image, picture)
    bands = picture.shown_bands(image)[:3]
    colors = np.zeros((*size, 3), np.float64)
    for channel in range(3):
        place = channel if len(bands) == 3 else 0  # otherwise the first band in grey
        low, high = limits[place]
        values = read.data[..., bands[place]].astype(np.float64)
        colors[..., channel] = (values - low) / ((high - low) or 1.0)
    shown = np.clip(np.nan_to_num(colors), 0, 1) * 255
    shown[~read.valid] = 0
    return shown.astype(np.uint8)


def _coarsest(image: Image) -> float:
    """Return level-0 pixels per pixel of the coarsest level that is complete."""
    return max(
        (
            scale
            for source, scale in zip(image.sources, image.downsamples, strict=True)
            if not isinstance(source, PendingLevel) or source.complete
        ),
        default=1.0,
    )
