"""Area of pixels on the ground or on the slide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import Roi
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

Unit = Literal["px", "µm²", "m²"]
FloatArray = npt.NDArray[np.float64]
# relative error of a projection's areas above which the ellipsoid is used
MAX_AREA_ERROR = 0.01


@dataclass(frozen=True, slots=True)
class PixelArea:
    """Area of the pixels of an image.

    Attributes
    ----------
    unit
        Unit of the areas; ``"px"`` if the pixel size is unknown.
    pixel
        Area of a pixel; None if it differs between rows.
    basis
        Description of how the areas are computed.
    """

    unit: Unit
    pixel: float | None
    basis: str
    _rows: Callable[[Roi, int], FloatArray] | None = None

    def rows(self, roi: Roi, level: int = 0) -> FloatArray:
        """Return the area of a pixel in each row of a rectangle of a level."""
        if self._rows is not None:
            return self._rows(roi, level)
        return np.full(roi.height, (self.pixel or 1.0) * 4.0**level)


def pixel_area(store: "LabelStore") -> PixelArea:
    """Return the area of the pixels of a store.

    Areas are on the plane of the projection, from the pixel size. They are on the
    ellipsoid for degrees, and for projections whose areas are wrong by more than 1 %
    in the middle of the image (Web Mercator).
    """
    size = store.pixel_size
    if size is None or store.unit not in ("micrometer", "metre", "degree"):
        return PixelArea("px", 1.0, "pixels: the image has no pixel size")
    if store.unit == "micrometer":
        return PixelArea("µm²", size[0] * size[1], "the image's pixel size")
    on_ellipsoid = None if store.crs is None else _on_ellipsoid(store)
    if store.unit == "degree":
        if on_ellipsoid is None:
            return PixelArea("px", 1.0, "pixels: degrees, and no known ellipsoid")
        return PixelArea("m²", None, "the ellipsoid WGS 84", on_ellipsoid)
    flat = size[0] * size[1]
    if on_ellipsoid is not None:
        row = store.shape[0] // 2
        true = float(on_ellipsoid(Roi(row, store.shape[1] // 2, 1, 1), 0)[0])
        if abs(flat / true - 1) > MAX_AREA_ERROR:
            basis = (
                f"the ellipsoid WGS 84: on the plane of this projection areas are "
                f"{formatted(flat / true, '.2f')} times as large"
            )
            return PixelArea("m²", None, basis, on_ellipsoid)
    return PixelArea(
        "m²", flat, "the image's pixel size, on the plane of its projection"
    )


def _on_ellipsoid(store: "LabelStore") -> Callable[[Roi, int], FloatArray] | None:
    """Return areas in an equal-area projection; None if it cannot be reached."""
    import rasterio
    from rasterio._err import CPLE_BaseError  # rasterio lets it through
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform

    if store.affine is None:
        return None
    a, b, c, d, e, f = store.affine
    try:
        crs: Any = rasterio.CRS.from_wkt(store.crs)
    except CRSError:
        return None

    def moved(to: Any, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        xs, ys = transform(crs, to, a * x + b * y + c, d * x + e * y + f)
        return np.asarray(xs), np.asarray(ys)

    middle = np.array([store.shape[1] / 2]), np.array([store.shape[0] / 2])
    try:
        longitude, _ = moved(rasterio.CRS.from_epsg(4326), *middle)
        if not np.isfinite(longitude).all():
            return None
        equal = rasterio.CRS.from_string(
            f"+proj=cea +lon_0={longitude[0]:.6f} +lat_ts=0 +datum=WGS84 +units=m"
        )
    except (CPLE_BaseError, RasterioError, RuntimeError):
        return None

    def rows(roi: Roi, level: int) -> FloatArray:
        scale = 2**level
        y = np.arange(roi.y, roi.bottom + 1, dtype=np.float64) * scale
        left = np.full(len(y), (roi.x + roi.width // 2) * scale, np.float64)
        (x0, y0), (x1, y1) = moved(equal, left, y), moved(equal, left + scale, y)
        # twice the area of each quadrilateral: its diagonals' cross product
        dx, dy = x1[1:] - x0[:-1], y1[1:] - y0[:-1]
        return np.asarray(
            abs(dx * (y0[1:] - y1[:-1]) - dy * (x0[1:] - x1[:-1])) / 2, np.float64
        )

    return rows
