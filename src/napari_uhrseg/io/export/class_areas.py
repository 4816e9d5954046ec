"""Measurement of the area of each class and of the size of its objects."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.export.pixel_area import PixelArea, Unit, pixel_area
from napari_uhrseg.io.export.registry import shown_legend
from napari_uhrseg.io.vectorize.label_strips import (
    IntArray,
    Strip,
    read_strips,
    track_objects,
    written_parts,
)
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import (
    BoolMask,
    LabelClass,
    Labels,
    MultiPolygon,
    Polygon,
    Region,
    Roi,
)

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

WHOLE_IMAGE = "image"

AREA_COLUMNS: dict[Unit, dict[str, float]] = {
    "px": {},
    "µm²": {"area_um2": 1.0, "area_mm2": 1e-6},
    "m²": {"area_m2": 1.0, "area_ha": 1e-4},
}


@dataclass(frozen=True, slots=True)
class ObjectSizes:
    """Statistics of the object sizes of a class, in the unit of the table."""

    count: int
    smallest: float
    lower: float
    median: float
    upper: float
    largest: float
    mean: float


@dataclass(frozen=True, slots=True)
class ClassArea:
    """Area of one class: ``area`` in the unit of the table, ``share`` from 0 to 1."""

    label: LabelClass
    pixels: int
    area: float
    share: float
    objects: ObjectSizes | None


@dataclass(frozen=True, slots=True)
class AreaTable:
    """Areas of all classes in a region, including classes without a pixel.

    ``unlabelled`` is the area without a label. ``estimated`` tables come from a
    coarse level and have no objects. ``outside`` is the share of the region beside
    the image, from 0 to 1.
    """

    region: str
    unit: Unit
    basis: str
    rows: tuple[ClassArea, ...]
    unlabelled: float
    estimated: bool
    outside: float = 0.0


def areas(
    store: "LabelStore",
    region: Region | None = None,
    name: str = WHOLE_IMAGE,
    limits: VectorLimits = VectorLimits(),
) -> Iterator[float | AreaTable]:
    """Count all pixels and connected objects of a region.

    Parameters
    ----------
    store
        Label store. The displayed labels are counted: corrections override predictions.
    region
        Region in level-0 pixels; None: the full image. Objects end at its border.
    name
        Name of the region in the table.
    limits
        Sizes of reads and strips.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    AreaTable
        The result, last: ``*_, table = areas(store)``.

    Notes
    -----
    Memory is that of `track_objects`, and one number per distinct object size: at
    most about a hundred thousand in an image of 100,000 x 100,000 pixels. Sizes are
    exact, or rounded to four digits if pixels differ in area.
    """
    pixel_sizes, box = pixel_area(store), _box(store, region)
    pixels, covered = np.zeros(256, np.int64), np.zeros(256)
    sizes = _SizeCounter(pixel_sizes)
    if box.area:
        written, empty = written_parts(store, box)
        for part in empty:
            covered[0] += _total(region, part, box, pixel_sizes, limits)
        for strip in track_objects(_inside_only(store, region, written, limits)):
            rows = _row_areas(pixel_sizes, strip.roi, box)
            counts, sums = _sums(strip.labels, _mask(region, strip.roi), rows)
            pixels += counts
            covered += sums
            sizes.add(strip, rows)
            yield (strip.roi.bottom - box.y) / box.height
    table = _table(store, name, pixel_sizes, pixels, covered, sizes)
    yield replace(table, outside=_outside(store, region))


def estimated_areas(
    store: "LabelStore",
    region: Region | None = None,
    name: str = WHOLE_IMAGE,
) -> AreaTable:
    """Estimate the areas from the coarsest level, without objects.

    This takes milliseconds. Regions smaller than a pixel of that level are ignored.

    Parameters
    ----------
    store
        Label store, of which the displayed labels are counted.
    region
        Region in level-0 pixels; None: the full image.
    name
        Name of the region in the table.

    Returns
    -------
    Estimated areas, in the unit of the pixel size.
    """
    level = len(store.prediction) - 1
    box, scale = _box(store, region), 2**level
    roi = box.at_scale(scale)
    labels = store.coarsest_displayed()[roi.slices]
    pixel_sizes = pixel_area(store)
    mask = _mask(_scaled(region, scale), roi)
    counts, covered = _sums(labels, mask, pixel_sizes.rows(roi, level))
    table = _table(store, name, pixel_sizes, counts * scale**2, covered, None)
    return replace(table, outside=_outside(store, region))


def to_csv(tables: Iterable[AreaTable]) -> str:
    """Return the tables as CSV, with one line per region and class.

    The columns depend on the unit: ``area_m2`` and ``area_ha``, or ``area_um2`` and
    ``area_mm2``, or neither. Object sizes are in the first of them, or in pixels.
    """
    tables = list(tables)
    unit: Unit = tables[0].unit if tables else "px"
    factors = AREA_COLUMNS[unit]
    suffix = next(iter(factors), "area_px").removeprefix("area")
    names = ("min", "q25", "median", "q75", "max", "mean")
    header = ["region", "class_id", "class", "pixels", *factors, "share", "objects"]
    header += [f"object_{n}{suffix}" for n in names]
    file = StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(header)
    for table in tables:
        for row in table.rows:
            line: list[object] = [table.region, row.label.id, row.label.name]
            line += [row.pixels, *(_number(row.area * f) for f in factors.values())]
            line += [f"{row.share:.6f}", *_sizes(row.objects)]
            out.writerow(line + [""] * (len(header) - len(line)))
    return file.getvalue()


def _sizes(objects: ObjectSizes | None) -> list[object]:
    if objects is None:
        return []
    o = objects
    every = (o.smallest, o.lower, o.median, o.upper, o.largest, o.mean)
    return [o.count, *(_number(size) for size in every if o.count)]


def _number(value: float) -> str:
    return f"{value:.10g}"


def _box(store: "LabelStore", region: Region | None) -> Roi:
    image = Roi(0, 0, *store.shape)
    return image if region is None else region.bounds.intersect(image)


def _outside(store: "LabelStore", region: Region | None) -> float:
    """Return the share of a region that lies beside the image."""
    if region is None or Roi(0, 0, *store.shape).contains(region.bounds):
        return 0.0
    import shapely

    polygons = region.polygons if isinstance(region, MultiPolygon) else (region,)
    shapes = [
        shapely.box(p.x, p.y, p.right, p.bottom)
        if isinstance(p, Roi)
        else shapely.make_valid(
            shapely.Polygon(np.array(p.corners)[:, ::-1],
                            [np.array(h)[:, ::-1] for h in p.holes])
        )
        for p in polygons
    ]  # fmt: skip
    whole = shapely.union_all(shapes)
    height, width = store.shape
    inside = shapely.intersection(whole, shapely.box(0, 0, width, height))
    return 1.0 - float(inside.area / whole.area) if whole.area else 0.0


def _inside_only(
    store: "LabelStore",
    region: Region | None,
    parts: list[Roi],
    limits: VectorLimits,
) -> Iterable[tuple[Roi, Labels]]:
    for part in parts:
        for roi, labels in read_strips(store, part, limits):
            mask = _mask(region, roi)
            yield roi, labels if mask is None else labels * mask


def _total(
    region: Region | None,
    part: Roi,
    box: Roi,
    pixel_sizes: PixelArea,
    limits: VectorLimits,
) -> float:
    """Return the area of the pixels of a region in a part of its bounding box."""
    if region is None or isinstance(region, Roi):
        return float(_row_areas(pixel_sizes, part, box).sum() * part.width)
    total = 0.0
    height = max(1, limits.strip_pixels // part.width)
    for y in range(part.y, part.bottom, height):
        strip = Roi(y, part.x, height, part.width).intersect(part)
        mask = _mask(region, strip)
        counts = strip.width if mask is None else mask.sum(1)
        total += float((_row_areas(pixel_sizes, strip, box) * counts).sum())
    return total


def _row_areas(pixel_sizes: PixelArea, roi: Roi, box: Roi) -> npt.NDArray[np.float64]:
    """Return the area of a pixel in each row, in the middle column of the box."""
    return pixel_sizes.rows(Roi(roi.y, box.x, roi.height, box.width))


def _mask(region: Region | None, roi: Roi) -> BoolMask | None:
    """Return the pixels with their centre in the region; None if all have."""
    if region is None or (isinstance(region, Roi) and region.contains(roi)):
        return None
    return rasterize(region, roi)


def _scaled(region: Region | None, scale: int) -> Region | None:
    match region:
        case MultiPolygon():
            parts = tuple(_scaled_polygon(p, scale) for p in region.polygons)
            return MultiPolygon(parts)
        case Polygon():
            return _scaled_polygon(region, scale)
        case Roi():
            return region.at_scale(scale)
    return None


def _scaled_polygon(polygon: Polygon, scale: int) -> Polygon:
    outer, *holes = (
        tuple((y / scale, x / scale) for y, x in ring)
        for ring in (polygon.corners, *polygon.holes)
    )
    return Polygon(outer, tuple(holes))


def _sums(
    labels: Labels, mask: BoolMask | None, rows: npt.NDArray[np.float64]
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return number and area of the pixels per label; 0 is unlabelled."""
    each = np.zeros((len(labels), 256), np.int64)
    for i, line in enumerate(labels):
        each[i] = np.bincount(line if mask is None else line[mask[i]], minlength=256)
    return each.sum(0), rows @ each


class _SizeCounter:
    """Number of objects of each size, per class."""

    def __init__(self, pixel_sizes: PixelArea) -> None:
        self._pixel_sizes = pixel_sizes
        self._sizes, self._ids = np.zeros(0), np.zeros(0, np.uint8)
        self._counts: dict[int, Counter[float]] = {}

    def add(self, strip: Strip, rows: npt.NDArray[np.float64]) -> None:
        """Add a strip; objects in its lowest row wait for the next strip."""
        at = strip.objects.ravel() + 1
        # integer pixel counts if all pixels are equal, so that sizes are exact
        weights = None if self._pixel_sizes.pixel else np.repeat(rows, strip.roi.width)
        sizes = np.bincount(at, weights, strip.count + 1)[1:].astype(np.float64)
        np.add.at(sizes, strip.carried, self._sizes)
        ids = np.zeros(strip.count + 1, np.uint8)
        ids[at] = strip.labels.ravel()
        ids = ids[1:]
        ids[strip.carried] = self._ids
        done = np.ones(strip.count, bool)
        done[strip.open] = False
        self._finish(ids[done], sizes[done])
        self._sizes, self._ids = sizes[strip.open], ids[strip.open]

    def of(self, class_id: int) -> ObjectSizes:
        """Return the sizes of a class, after the last strip."""
        self._finish(self._ids, self._sizes)
        self._sizes, self._ids = np.zeros(0), np.zeros(0, np.uint8)
        counter = self._counts.get(class_id)
        if counter is None:
            return ObjectSizes(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        sizes = np.array(sorted(counter))
        counts = np.array([counter[s] for s in sizes.tolist()])
        reached = np.cumsum(counts)
        total = int(reached[-1])
        quarters = (
            float(sizes[np.searchsorted(reached, q * total)]) for q in (0.25, 0.5, 0.75)
        )
        factor = self._pixel_sizes.pixel or 1.0
        lower, median, upper = (q * factor for q in quarters)
        smallest, largest = float(sizes[0]) * factor, float(sizes[-1]) * factor
        mean = float(sizes @ counts) / total * factor
        return ObjectSizes(total, smallest, lower, median, upper, largest, mean)

    def _finish(self, ids: Labels, sizes: npt.NDArray[np.float64]) -> None:
        if not self._pixel_sizes.pixel:
            sizes = np.array([float(f"{s:.4g}") for s in sizes])
        for class_id in np.unique(ids).tolist():
            found, counts = np.unique(sizes[ids == class_id], return_counts=True)
            counter = self._counts.setdefault(class_id, Counter())
            counter.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _table(
    store: "LabelStore",
    name: str,
    pixel_sizes: PixelArea,
    pixels: IntArray,
    covered: npt.NDArray[np.float64],
    sizes: _SizeCounter | None,
) -> AreaTable:
    total = float(covered[1:].sum())
    rows = tuple(
        ClassArea(
            c,
            int(pixels[c.id]),
            float(covered[c.id]),
            float(covered[c.id]) / total if total else 0.0,
            None if sizes is None else sizes.of(c.id),
        )
        for c in shown_legend(store)
    )
    none = float(covered[0])
    return AreaTable(
        name, pixel_sizes.unit, pixel_sizes.basis, rows, none, sizes is None
    )
