"""Positions of georeferenced layers: images lie side by side on one map.

World coordinates of napari are positions on the map relative to an origin, in the unit
of the pixel size. They point down and to the right. The origin is the first pixel of
the first image. Map coordinates themselves are too large for the 32-bit numbers of
graphics cards: at a northing of 5,000 km, two neighbours are 0.5 m apart.

An image of another CRS is reprojected for showing: an affine transform approximates the
projection. It is not placed if a pixel would be more than `MOST_ERROR` pixels off.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject

from napari_uhrseg.io.image.geometry import Affine, crs_name
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.layers.label_layers import KEY
from napari_uhrseg.units import formatted

ORIGIN = "uhrseg_map_origin"  # metadata key of a layer: the origin of its position

MOST_ERROR = 1.0  # pixels by which a reprojected image may be off
GRID = 5  # points per side at which a projection is approximated

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MapOrigin:
    """Position on a map that is the origin of napari's world coordinates.

    Attributes
    ----------
    crs
        Coordinate reference system as WKT.
    x, y
        Coordinates in the CRS, x to the east and y to the north.
    unit
        Unit of the CRS in the unit of the world: 0.3048 for feet in a world in metres.
    """

    crs: str
    x: float
    y: float
    unit: float

    @classmethod
    def of_image(cls, image: Image) -> Self | None:
        """Return the centre of an image's first pixel; None without a position."""
        if image.crs is None or image.affine is None or image.pixel_size is None:
            return None
        a, b, c, d, e, f = image.affine
        unit = image.pixel_size[1] / float(np.hypot(a, d))
        return cls(image.crs, c + (a + b) / 2, f + (d + e) / 2, unit)

    def matrix(self, affine: Affine, pixel_size: tuple[float, float]) -> Matrix:
        """Return the (3, 3) transform of scaled pixels (y, x) to world coordinates.

        Parameters
        ----------
        affine
            Transform of pixels to the CRS, as in `Image`.
        pixel_size
            (height, width) of a pixel. Scaled pixels are indices times this size; a
            whole index is the centre of a pixel.
        """
        a, b, c, d, e, f = affine
        down, across = pixel_size
        y = (-e / down, -d / across, self.y - (f + (d + e) / 2))
        x = (b / down, a / across, c + (a + b) / 2 - self.x)
        rows = [np.multiply(y, self.unit), np.multiply(x, self.unit), (0, 0, 1)]
        return np.array(rows, np.float64)

    def to_map(self, world: npt.ArrayLike) -> tuple[float, float]:
        """Return the map coordinates (x, y) of a point (y, x) of the world."""
        down, across = (float(v) for v in np.asarray(world)[-2:])
        return self.x + across / self.unit, self.y - down / self.unit


class MapPlacement(QObject):
    """Placement of each layer that is added to a viewer, by the CRS of its image."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        for layer in viewer.layers:
            self._place(layer)
        self._inserted = viewer.layers.events.inserted
        self._inserted.connect(self._added)

    def stop(self) -> None:
        """Disconnect from the viewer. Placed layers keep their place."""
        self._inserted.disconnect(self._added)

    def _added(self, event: Any) -> None:
        if self._place(event.value) and len(self._viewer.layers) == 1:
            self._viewer.reset_view()  # napari did so before the image was rotated

    def _place(self, layer: Any) -> bool:
        """Move a layer to its place; return whether it has one."""
        image = layer.metadata.get(KEY)
        origin = None if image is None else MapOrigin.of_image(image)
        if origin is None or ORIGIN in layer.metadata:
            return False
        placed = next((x for x in self._viewer.layers if ORIGIN in x.metadata), None)
        affine = image.affine
        if placed is not None:
            first = placed.metadata[ORIGIN]
            if first.crs != origin.crs:
                affine, error = reprojected(image.crs, affine, image.shape, first.crs)
                if sum(x.metadata.get(KEY) is image for x in self._viewer.layers) == 1:
                    _warn(image, placed.metadata[KEY], error)
                if error > MOST_ERROR:
                    return False
            origin = first
        layer.metadata[ORIGIN] = origin
        matrix = np.eye(layer.ndim + 1)
        matrix[-3:, -3:] = origin.matrix(affine, image.pixel_size)
        layer.affine = matrix
        return True


@lru_cache(maxsize=64)
def reprojected(
    crs: str, affine: Affine, shape: tuple[int, int], target: str
) -> tuple[Affine, float]:
    """Return the affine transform of an image to another CRS, and its largest error.

    Parameters
    ----------
    crs, affine
        CRS of the image as WKT, and its transform from pixels.
    shape
        (height, width) of the image.
    target
        The other CRS as WKT.

    Returns
    -------
    affine : least-squares fit at a grid of points
    error : in pixels of the image; infinite if the image is outside of the CRS
    """
    import rasterio
    from rasterio.warp import transform

    height, width = shape
    rows, columns = np.meshgrid(
        np.linspace(0, height, GRID), np.linspace(0, width, GRID), indexing="ij"
    )
    pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)], 1)
    xs, ys = np.reshape(affine, (2, 3)) @ pixels.T
    systems = rasterio.CRS.from_wkt(crs), rasterio.CRS.from_wkt(target)
    try:
        points = np.array(transform(*systems, xs, ys)[:2]).T
    except Exception:  # noqa: BLE001  PROJ raises many kinds of error
        return affine, np.inf
    if not np.isfinite(points).all():
        return affine, np.inf
    middle = points.mean(0)  # keeps the digits of large coordinates
    fit = np.linalg.lstsq(pixels, points - middle, rcond=None)[0]
    if abs(np.linalg.det(fit[:2])) == 0:
        return affine, np.inf
    off = (pixels @ fit - (points - middle)) @ np.linalg.inv(fit[:2])
    fit[2] += middle
    (a, d), (b, e), (c, f) = fit.tolist()
    return (a, b, c, d, e, f), float(np.hypot(*off.T).max())


def _warn(image: Image, placed: Image, error: float) -> None:
    systems = f"{crs_name(image.crs)}, not {crs_name(placed.crs)}"
    if error <= MOST_ERROR:
        show_info(
            f"{image.name} has another coordinate system than {placed.name} "
            f"({systems}). It is reprojected for showing; its pixels are at most "
            f"{formatted(max(error, 0.01), '.2g')} pixels off. Segmentation uses the "
            "file as it is."
        )
        return
    off = (
        f" would be {formatted(error, ',.0f')} pixels off"
        if np.isfinite(error)
        else " has no place"
    )
    show_warning(
        f"{image.name} has another coordinate system than {placed.name} and is not "
        f"shown at its place on the map: {systems}. It{off} in that system. Reproject "
        "one of them with gdalwarp to see them side by side."
    )
