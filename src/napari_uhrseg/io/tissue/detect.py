"""Detection of tissue on a coarse level of an image.

A pixel is tissue if its saturation or its optical density reaches a threshold. Both are
computed from the smoothed colours, the optical density against the colour of the
background. Small pieces are then removed and small holes filled.

The thresholds are those of Otsu (1979), limited to the values between which the stain
of tissue begins. Without the limits, Otsu's method divides the tissue itself where an
image shows little background.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import (
    AreaSize,
    BoolMask,
    Roi,
    TissueMask,
    TissueSettings,
)
from napari_uhrseg.types.tissue import mask_factor

BRIGHT = 200 / 255  # value that background reaches in every band
LEAST_BRIGHT = 0.01  # share of bright pixels from which their colour is the background
SATURATION_LIMITS = 0.03, 0.07  # lowest and highest threshold of Otsu's method
DENSITY_LIMITS = 0.02, 0.04
DARKEST = 1 / 255  # optical densities are finite
LEAST_SIGMA = 0.3  # mask pixels; a narrower filter changes nothing
STRIP_ROWS = 128  # rows of the mask that are read at a time
DEFAULT_SIZE = AreaSize(10_000, "µm²")
DEFAULT_PIXELS = AreaSize(40_000)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CoarseColours:
    """Colours of an image at the pixels of its tissue mask.

    Attributes
    ----------
    image_shape
        Height and width of the image in level-0 pixels.
    colours
        (h, w, 3) float32: red, green and blue, 0 to 1.
    valid
        (h, w) bool: pixels with data.
    square_metres
        Area of a level-0 pixel in m²; None if it is unknown.
    in_micrometres
        True if the pixel size is in micrometres.
    """

    image_shape: tuple[int, int]
    colours: Floats
    valid: BoolMask
    square_metres: float | None
    in_micrometres: bool


def detect_tissue(
    image: Image, settings: TissueSettings = TissueSettings()
) -> TissueMask:
    """Return the tissue of an image with red, green and blue bands.

    The image is read once at no more than 2048 pixels a side. The memory is about 200
    MB, besides that of `Image.read`.

    Raises
    ------
    PlanError
        If the image has no red, green and blue bands.
    UhrSegError
        If a size is in µm² or m², and the pixel size is unknown.
    ReadError
        If pixels cannot be decoded.
    """
    *_, colours = read_colours(image)
    assert isinstance(colours, CoarseColours)
    return tissue_of(colours, settings)


def read_colours(image: Image) -> Iterator[float | CoarseColours]:
    """Read the colours that `tissue_of` needs.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    CoarseColours
        The result, last.

    Raises
    ------
    PlanError
        If the image has no red, green and blue bands.
    ReadError
        If pixels cannot be decoded.
    """
    if not image.rgb:
        raise PlanError(
            f"{image.name} has no red, green and blue bands, so tissue cannot be "
            "detected by its colour.",
            "Choose a region instead.",
        )
    factor, (height, width) = mask_factor(image.shape), TissueMask.shape_of(image.shape)
    black, white = image.contrast_limits
    colours = np.empty((height, width, 3), np.float32)
    valid = np.empty((height, width), bool)
    for y in range(0, height, STRIP_ROWS):
        rows = min(STRIP_ROWS, height - y)
        roi = Roi(y * factor, 0, rows * factor, width * factor)
        data, there = image.read(roi, (rows, width), image.rgb_bands)
        scaled = (data.astype(np.float32) - black) / max(white - black, 1e-9)
        colours[y : y + rows] = np.where(there[..., None], np.clip(scaled, 0, 1), 1)
        valid[y : y + rows] = there
        yield (y + rows) / height
    side = image.meters_per_pixel
    yield CoarseColours(
        image.shape, colours, valid,
        None if side is None else side * side,
        side is not None and image.unit == "micrometer",
    )  # fmt: skip


def tissue_of(found: CoarseColours, settings: TissueSettings) -> TissueMask:
    """Return the tissue mask of colours, with the thresholds that were used.

    Raises
    ------
    UhrSegError
        If a size is in µm² or m², and the pixel size is unknown.
    """
    from skimage.morphology import remove_small_holes, remove_small_objects

    factor = mask_factor(found.image_shape)
    piece, hole = (
        _mask_pixels(size, found, factor)
        for size in (settings.smallest_piece, settings.largest_hole)
    )
    saturation, density = _features(found, settings.smoothing / factor)
    least = (
        _threshold(saturation, found.valid, SATURATION_LIMITS, settings.saturation),
        _threshold(density, found.valid, DENSITY_LIMITS, settings.density),
    )
    mask = ((saturation >= least[0]) | (density >= least[1])) & found.valid
    # skimage removes sizes up to the limit
    mask = remove_small_objects(mask, max_size=piece) if piece else mask
    mask = remove_small_holes(mask, max_size=hole) if hole else mask
    return TissueMask.of(
        mask & found.valid,
        found.image_shape,
        f"saturation {least[0]:.3f}, optical density {least[1]:.3f}",
        settings,
    )


def count_pieces(mask: TissueMask) -> int:
    """Return the number of connected pieces of tissue (8-connectivity)."""
    from skimage.measure import label

    return int(label(mask.pixels, connectivity=2, return_num=True)[1])


def _mask_pixels(size: AreaSize | None, found: CoarseColours, factor: int) -> int:
    """Return the largest number of mask pixels that is smaller than a size."""
    chosen = size or (DEFAULT_SIZE if found.in_micrometres else DEFAULT_PIXELS)
    exact = chosen.pixels(found.square_metres) / factor**2
    return max(0, int(np.ceil(exact)) - 1)


def _features(found: CoarseColours, sigma: float) -> tuple[Floats, Floats]:
    """Return saturation and optical density of the smoothed colours."""
    from skimage.filters import gaussian

    colours = found.colours
    bright = colours[(colours.min(2) >= BRIGHT) & found.valid]
    white = np.ones(3, np.float32)
    if len(bright) > LEAST_BRIGHT * np.count_nonzero(found.valid):
        white = np.median(bright, axis=0)
    if sigma >= LEAST_SIGMA:
        colours = gaussian(colours, sigma, channel_axis=2)
    most = colours.max(2)
    saturation = (most - colours.min(2)) / np.maximum(most, DARKEST)
    density = np.zeros(colours.shape[:2], np.float32)
    for band in range(3):
        density -= np.log10(np.maximum(colours[..., band], DARKEST) / white[band])
    return saturation, np.maximum(density / 3, 0)


def _threshold(
    values: Floats,
    valid: BoolMask,
    limits: tuple[float, float],
    chosen: float | None,
) -> float:
    """Return the chosen threshold, or that of Otsu's method within limits."""
    from skimage.filters import threshold_otsu

    if chosen is not None:
        return chosen
    inside = values[valid]
    if not inside.size or inside.min() == inside.max():
        return limits[1]
    return float(np.clip(threshold_otsu(inside), *limits))
