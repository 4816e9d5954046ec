"""Pixel sizes on the ground, and scales between the levels of an image."""

import math
from functools import lru_cache
from typing import Protocol

from napari_uhrseg.io.image.chunk_cache import CachedSource
from napari_uhrseg.io.image.level_source import LevelSource
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.pixel_transforms import HalfResolution
from napari_uhrseg.units import formatted

MAX_COARSEST_SIDE = 2048  # px per side; napari reads the coarsest level whole
ON_THE_FLY_PIXELS = 4096**2  # pixels of a source that is averaged on each read
UNIT_METRES = {"micrometer": 1e-6, "metre": 1.0}
DEGREE_METRES = 111_320.0  # length of one degree of latitude
MAX_MAP_ERROR = 0.01  # share of a length by which map and ground may differ

Affine = tuple[float, float, float, float, float, float]


class Georeferenced(Protocol):
    """Image or label store with a size and a position on the ground."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def crs(self) -> str | None: ...
    @property
    def affine(self) -> tuple[float, ...] | None: ...


def metres(
    pixel_size: tuple[float, float],
    unit: str,
    shape: tuple[int, int],
    affine: Affine | None,
    crs: str | None = None,
) -> float | None:
    """Return the side of a pixel on the ground in metres; None if it is not known.

    Degrees, and the metres of a map projection that changes lengths (Web Mercator),
    are converted at the centre of the image.

    Parameters
    ----------
    pixel_size
        (height, width) of a pixel in the unit.
    unit
        ``micrometer``, ``metre``, ``degree`` or ``pixel``.
    shape
        (height, width) of the image in pixels.
    affine
        Transform from pixels to the CRS, as in `Image`; None for the equator.
    crs
        Coordinate reference system as WKT.

    Returns
    -------
    Geometric mean of the height and the width, in metres.
    """
    height, width = pixel_size
    if unit == "degree":
        latitude = 0.0
        if affine is not None:
            _, _, _, d, e, f = affine
            latitude = d * shape[1] / 2 + e * shape[0] / 2 + f
        narrower = max(0.01, math.cos(math.radians(latitude)))
        return DEGREE_METRES * math.sqrt(height * width * narrower)
    if unit not in UNIT_METRES:
        return None
    side = math.sqrt(height * width) * UNIT_METRES[unit]
    if unit == "metre" and crs is not None and affine is not None:
        scale = _ground_scale(crs, affine, shape)
        return None if scale is None else side * scale
    return side


@lru_cache(maxsize=256)
def _ground_scale(crs: str, affine: Affine, shape: tuple[int, int]) -> float | None:
    """Return the length on the ground per length on the map, at the image's centre.

    It is 1 if the two differ by at most one percent, as in UTM. It is None if the
    projection fails, or has no such point on the Earth.
    """
    import rasterio
    from rasterio.warp import transform

    a, b, c, d, e, f = affine
    row, column = shape[0] / 2, shape[1] / 2
    rows, columns = (row, row, row + 1), (column, column + 1, column)
    xs = [a * k + b * r + c for r, k in zip(rows, columns, strict=True)]
    ys = [d * k + e * r + f for r, k in zip(rows, columns, strict=True)]
    try:
        source = rasterio.CRS.from_wkt(crs)
        factor = source.linear_units_factor[1]
        wgs84 = rasterio.CRS.from_epsg(4326)
        longitudes, latitudes = transform(source, wgs84, xs, ys)
    except Exception:  # noqa: BLE001  PROJ raises many kinds of error
        return None
    narrower = math.cos(math.radians(latitudes[0]))
    turns = [(k - longitudes[0] + 180) % 360 - 180 for k in longitudes[1:]]
    east = [narrower * turn for turn in turns]
    north = [latitude - latitudes[0] for latitude in latitudes[1:]]
    ground = abs(east[0] * north[1] - east[1] * north[0]) * DEGREE_METRES**2
    pixel = abs(a * e - b * d) * factor**2
    if not pixel or not math.isfinite(ground) or not ground:
        return None
    scale = math.sqrt(ground / pixel)
    return scale if abs(scale - 1) > MAX_MAP_ERROR else 1.0


def crs_name(wkt: str | None) -> str:
    """Return the name of a CRS, which is the first quoted text of its WKT."""
    parts = (wkt or "").split('"')
    return parts[1] if len(parts) > 1 else ""


@lru_cache(maxsize=64)
def epsg_code(crs: str | None) -> int | None:
    """Return the EPSG code of a CRS; None if it has none."""
    if crs is None:
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        code = CRS.from_wkt(crs).to_epsg()
    except CRSError:
        return None
    return None if code is None else int(code)


def extent(image: Georeferenced) -> tuple[float, float, float, float] | None:
    """Return left, bottom, right and top in the CRS; None without a transform."""
    if image.affine is None:
        return None
    a, b, c, d, e, f = image.affine
    height, width = image.shape
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    xs = [a * x + b * y + c for x, y in corners]
    ys = [d * x + e * y + f for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def rotation(image: Georeferenced) -> float:
    """Return the angle from the x axis of the CRS to the rows, in degrees."""
    if image.affine is None:
        return 0.0
    a, _, _, d, _, _ = image.affine
    return math.degrees(math.atan2(d, a)) if d else 0.0


def describe_position(image: Georeferenced) -> dict[str, str]:
    """Return the name and EPSG code of the CRS, the extent and the rotation as texts.

    What the image does not have is left out.
    """
    facts = {}
    if image.crs:
        code, known = epsg_code(image.crs), crs_name(image.crs) or "yes"
        facts["Coordinates"] = f"{known} (EPSG:{code})" if code else known
    box = extent(image)
    if box is not None:
        left, bottom, right, top = (formatted(v, ".10g") for v in box)
        facts["Extent"] = f"x {left} to {right}, y {bottom} to {top}"
    angle = rotation(image)
    if angle:
        way = "counterclockwise" if angle > 0 else "clockwise"
        facts["Rotation"] = f"{formatted(abs(angle), '.4g')}° {way}"
    return facts


def scale_of(full: tuple[int, int], level: tuple[int, int]) -> tuple[float, float]:
    """Return the level-0 pixels per pixel of a level, down and across.

    The two scales are equal and integers if the rounding of the sizes permits it.
    """
    down, across = (n / k for n, k in zip(full, level, strict=True))
    both = math.sqrt(down * across)
    whole = [max(1, round(scale)) for scale in (both, down, across)]
    ways = (whole[0], whole[0]), (both, both), (whole[1], whole[2])
    for found in ways:
        sides = zip(full, found, level, strict=True)
        if all(abs(n / scale - k) < 1.01 for n, scale, k in sides):
            return float(found[0]), float(found[1])
    return down, across


def missing_levels(
    source: LevelSource, axes: str, nodata: float | None
) -> list[LevelSource]:
    """Return the levels coarser than a source, each half of the previous one.

    The coarsest has at most 2048 px per side. The levels of a small source are
    averaged on each read; others are pending levels, which are filled in the
    background.

    Parameters
    ----------
    source
        Coarsest level of the file.
    axes
        One letter per axis of the source.
    nodata
        Value of invalid pixels, which the means ignore; None without one.

    Returns
    -------
    Levels from fine to coarse; empty if the source is small enough.
    """
    sizes = dict(zip(axes, source.shape, strict=True))
    chunks = tuple(
        512 if a in "yx" else c for a, c in zip(axes, source.chunks, strict=True)
    )
    small = sizes["y"] * sizes["x"] <= ON_THE_FLY_PIXELS and not isinstance(
        source, PendingLevel
    )
    found: list[LevelSource] = []
    while max(sizes["y"], sizes["x"]) > MAX_COARSEST_SIDE:
        sizes |= {"y": -(-sizes["y"] // 2), "x": -(-sizes["x"] // 2)}
        if small:
            finer = found[-1] if found else source
            found.append(CachedSource(HalfResolution(finer, axes, nodata)))
        else:
            shape = tuple(sizes[a] for a in axes)
            found.append(PendingLevel(shape, source.dtype, chunks))
    return found


def is_real(source: LevelSource) -> bool:
    """Return whether a level has the pixels of the file, not means of them."""
    if isinstance(source, PendingLevel):
        return source.untiled_source is not None
    return not isinstance(getattr(source, "source", None), HalfResolution)
