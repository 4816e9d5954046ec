"""How much there is of each class, and in how many pieces of which size."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.export import shown_legend
from napari_uhrseg.io.export.pixel_area import Ground, Unit, ground
from napari_uhrseg.io.vectorize.label_strips import (
    Numbers,
    Strip,
    follow_objects,
    read_strips,
)
from napari_uhrseg.types import LabelClass, Labels, Mask, Polygon, Region, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

IMAGE = "image"
COLUMNS: dict[Unit, dict[str, float]] = {
    "px": {},
    "µm²": {"area_um2": 1.0, "area_mm2": 1e-6},
    "m²": {"area_m2": 1.0, "area_ha": 1e-4},
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a class's objects, in the table's unit; quartiles are sizes."""

    count: int
    smallest: float
    lower: float
    median: float
    upper: float
    largest: float
    mean: float


@dataclass(frozen=True, slots=True)
class ClassArea:
    """One class: ``area`` in the table's unit, ``share`` of all that is labelled."""

    label: LabelClass
    pixels: int
    area: float
    share: float
    objects: Sizes | None


@dataclass(frozen=True, slots=True)
class AreaTable:
    """The classes of a region, those without a pixel among them.

    ``unlabelled`` is the area in the region without a label. ``estimated`` tables
    come from a coarse level and say nothing of objects.
    """

    region: str
    unit: Unit
    basis: str
    rows: tuple[ClassArea, ...]
    unlabelled: float
    estimated: bool


def areas(
    store: "LabelStore", region: Region | None = None, name: str = IMAGE
) -> Iterator[float | AreaTable]:
    """Count every pixel and every connected object of a region.

    Parameters
    ----------
    store
        What it shows is counted: corrections over predictions.
    region
        In pixels of the full image; ``None``: all of it. Objects end at its border.
    name
        Of the region in the table.

    Yields
    ------
    What is done, from 0 to 1; at last the table: ``*_, table = areas(store)``.

    Notes
    -----
    Memory is that of `follow_objects`, and one number for each size that some
    object has: at most some hundred thousand in an image of 100,000 pixels a side.
    Sizes are exact, but to four digits where pixels differ in area.
    """
    land, box = ground(store), _box(store, region)
    pixels, covered = np.zeros(256, np.int64), np.zeros(256)
    sizes = _SizeCounter(land)
    if box.area:
        for strip in follow_objects(_inside_only(store, region, box)):
            rows = land.rows(strip.roi)
            counts, sums = _sums(strip.labels, _mask(region, strip.roi), rows)
            pixels += counts
            covered += sums
            sizes.add(strip, rows)
            yield (strip.roi.bottom - box.y) / box.height
    yield _table(store, name, land, pixels, covered, sizes)


def estimated_areas(
    store: "LabelStore", region: Region | None = None, name: str = IMAGE
) -> AreaTable:
    """The same, without objects, from the coarsest level: in milliseconds.

    What is smaller than a pixel of that level hardly counts.
    """
    level = len(store.prediction) - 1
    box, scale = _box(store, region), 2**level
    roi = box.at_scale(scale)
    labels = store.coarsest_displayed()[roi.slices]
    land = ground(store)
    mask = _mask(_scaled(region, scale), roi)
    counts, covered = _sums(labels, mask, land.rows(roi, level))
    return _table(store, name, land, counts * scale**2, covered, None)


def to_csv(tables: Iterable[AreaTable]) -> str:
    """The tables as one: a line for each region and class.

    The columns follow from the unit: ``area_m2`` and ``area_ha``, or ``area_um2``
    and ``area_mm2``, or neither; sizes of objects are in the first of them, or in
    pixels.
    """
    tables = list(tables)
    unit: Unit = tables[0].unit if tables else "px"
    factors = COLUMNS[unit]
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


def _sizes(objects: Sizes | None) -> list[object]:
    if objects is None:
        return []
    o = objects
    every = (o.smallest, o.lower, o.median, o.upper, o.largest, o.mean)
    return [o.count, *(_number(size) for size in every if o.count)]


def _number(value: float) -> str:
    return f"{value:.10g}"


def _box(store: "LabelStore", region: Region | None) -> Roi:
    image = Roi(0, 0, *store.shape)
    if region is None:
        return image
    return (region if isinstance(region, Roi) else region.bounds).intersect(image)


def _inside_only(
    store: "LabelStore", region: Region | None, box: Roi
) -> Iterable[tuple[Roi, Labels]]:
    for roi, labels in read_strips(store, box):
        mask = _mask(region, roi)
        yield roi, labels if mask is None else labels * mask


def _mask(region: Region | None, roi: Roi) -> Mask | None:
    """Which pixels of the roi have their centre in the region; None where all do."""
    if region is None or (isinstance(region, Roi) and region.contains(roi)):
        return None
    return rasterize(region, roi)


def _scaled(region: Region | None, scale: int) -> Region | None:
    match region:
        case Polygon():
            rings = [
                tuple((y / scale, x / scale) for y, x in ring)
                for ring in (region.corners, *region.holes)
            ]
            return Polygon(rings[0], tuple(rings[1:]))
        case Roi():
            return region.at_scale(scale)
    return None


def _sums(
    labels: Labels, mask: Mask | None, rows: npt.NDArray[np.float64]
) -> tuple[Numbers, npt.NDArray[np.float64]]:
    """Pixels, and their areas, by label; at 0 what has none."""
    each = np.zeros((len(labels), 256), np.int64)
    for i, line in enumerate(labels):
        each[i] = np.bincount(line if mask is None else line[mask[i]], minlength=256)
    return each.sum(0), rows @ each


class _SizeCounter:
    """How many objects there are of each size, by class."""

    def __init__(self, land: Ground) -> None:
        self._land = land
        self._sizes, self._ids = np.zeros(0), np.zeros(0, np.uint8)
        self._counts: dict[int, Counter[float]] = {}

    def add(self, strip: Strip, rows: npt.NDArray[np.float64]) -> None:
        """Take in a strip; what reaches its lowest row waits for the next one."""
        at = strip.objects.ravel() + 1
        # whole numbers of pixels where all are alike, so that sizes are exact
        weights = None if self._land.pixel else np.repeat(rows, strip.roi.width)
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

    def of(self, class_id: int) -> Sizes:
        """What there is of a class, once the last strip has been taken in."""
        self._finish(self._ids, self._sizes)
        self._sizes, self._ids = np.zeros(0), np.zeros(0, np.uint8)
        counter = self._counts.get(class_id)
        if counter is None:
            return Sizes(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        sizes = np.array(sorted(counter))
        counts = np.array([counter[s] for s in sizes.tolist()])
        reached = np.cumsum(counts)
        total = int(reached[-1])
        quarters = (
            float(sizes[np.searchsorted(reached, q * total)]) for q in (0.25, 0.5, 0.75)
        )
        factor = self._land.pixel or 1.0
        lower, median, upper = (q * factor for q in quarters)
        smallest, largest = float(sizes[0]) * factor, float(sizes[-1]) * factor
        mean = float(sizes @ counts) / total * factor
        return Sizes(total, smallest, lower, median, upper, largest, mean)

    def _finish(self, ids: Labels, sizes: npt.NDArray[np.float64]) -> None:
        if not self._land.pixel:
            sizes = np.array([float(f"{s:.4g}") for s in sizes])
        for class_id in np.unique(ids).tolist():
            found, counts = np.unique(sizes[ids == class_id], return_counts=True)
            counter = self._counts.setdefault(class_id, Counter())
            counter.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _table(
    store: "LabelStore",
    name: str,
    land: Ground,
    pixels: Numbers,
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
    return AreaTable(name, land.unit, land.basis, rows, none, sizes is None)
