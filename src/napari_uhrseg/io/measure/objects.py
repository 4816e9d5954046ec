"""Measurements of all connected objects, in strips from top to bottom.

An object is a set of pixels of one displayed class that share sides (4-connectivity).

Memory is that of `label_strips`, about 150 bytes per pixel of a strip of a million
pixels (with an image, 4096 columns of its strip as well), and about 100 bytes for each
object that crosses the lower edge of a strip. Nothing is proportional to the image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.pixel_area import PixelArea, Unit, pixel_area
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.measure.perimeter import FloatArray, PerimeterCounter
from napari_uhrseg.io.vectorize.label_strips import (
    IntArray,
    Strip,
    read_strips,
    track_objects,
    written_parts,
)
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import Labels, Roi
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore

Columns = dict[str, npt.NDArray]
UNITS: dict[Unit, str] = {"px": "px", "µm²": "um", "m²": "m"}
READ_COLUMNS = 4096  # pixels of the image that are read side by side at once


def measure_objects(
    store: "LabelStore",
    image: "Image | None" = None,
    limits: VectorLimits = VectorLimits(),
) -> Iterator[float | Columns]:
    """Measure each connected object of the displayed labels.

    Parameters
    ----------
    store
        Label store. It may be read-only, and another process may write to it.
    image
        Image of the store, for the mean intensity of each band; None: no intensities.
    limits
        Sizes of reads and strips. The result does not depend on them, except for the
        order of objects.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    Columns
        Complete objects: one array of equal length for each name of `object_columns`.

    Raises
    ------
    ExportError
        If the image has another size than the labels.
    StoreError, ReadError
        If labels or pixels cannot be read.

    Notes
    -----
    ``column`` and ``row`` are those of the centroid, where the centre of the first
    pixel is 0. ``x`` and ``y`` are map coordinates; ``x_um`` and ``y_um`` are measured
    from the upper left corner of the image. The perimeter is that of
    `skimage.measure.perimeter` with a neighbourhood of 4; a pixel's side is the square
    root of its area. The circularity is 4 pi area / perimeter²; it may exceed 1 for
    small objects, and is NaN if the perimeter is 0. The mean confidence is that of the
    pixels with a prediction, from 0 (undecided) to 1 (certain), also where a correction
    overrides the prediction. Intensities are means of valid pixels.
    """
    if image is not None and image.shape != store.shape:
        raise ExportError(
            f"{image.name} has {formatted(image.shape[1])} x "
            f"{formatted(image.shape[0])} pixels, but the "
            f"labels have {formatted(store.shape[1])} x {formatted(store.shape[0])}.",
            "Give the image of which the labels are.",
        )
    table = _Table(store, image, pixel_area(store))
    parts, _ = written_parts(store, Roi(0, 0, *store.shape))
    strips = chain.from_iterable(read_strips(store, part, limits) for part in parts)
    totals = _Totals(np.zeros((0, table.width)))
    for strip, below in _with_below(strips):
        runs = _Runs.of(strip)
        sides = np.sqrt(table.row_areas(strip.roi))
        done = totals.add(strip, below, sides, runs, table.sums(strip, runs))
        if len(done.ids):
            yield table.columns(done)
        yield min(1.0, strip.roi.bottom / store.shape[0])


@dataclass(frozen=True, slots=True)
class LargestObjects:
    """The largest objects, largest first, and the number of all objects."""

    rows: Columns
    count: int


def largest_objects(
    store: "LabelStore", most: int, limits: VectorLimits = VectorLimits()
) -> Iterator[float | LargestObjects]:
    """Measure all objects, and keep the largest ones.

    Parameters
    ----------
    store
        Label store.
    most
        Number of objects that are kept, at least 1.
    limits
        Sizes of reads and strips.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    LargestObjects
        The result, last. Objects of one size are in the order in which they are found.
    """
    rows, count = object_columns(store), 0
    for found in measure_objects(store, None, limits):
        if isinstance(found, float):
            yield found
            continue
        count += len(found["pixels"])
        rows = {name: np.concatenate([rows[name], found[name]]) for name in rows}
        order = np.argsort(-rows["pixels"], kind="stable")[:most]
        rows = {name: values[order] for name, values in rows.items()}
    yield LargestObjects(rows, count)


def object_columns(store: "LabelStore", image: "Image | None" = None) -> Columns:
    """Return the columns of the table without rows, by name."""
    table = _Table(store, image, pixel_area(store))
    nothing = _Done(np.zeros(0, np.uint8), np.zeros((0, table.width)), np.zeros(0))
    return table.columns(nothing)


def _with_below(
    strips: Iterable[tuple[Roi, Labels]],
) -> Iterator[tuple[Strip, Labels]]:
    """Yield all strips, each with the row below it, and a last one without labels."""
    below: list[Labels] = []

    def ahead() -> Iterator[tuple[Roi, Labels]]:
        last: tuple[Roi, Labels] | None = None
        for roi, labels in strips:
            if last is not None:
                below.append(labels[0])
                yield last
            last = roi, labels
        if last is not None:
            roi, labels = last
            nothing = np.zeros((1, roi.width), np.uint8)
            below.extend([nothing[0], nothing[0]])
            yield last
            yield Roi(roi.bottom, roi.x, 1, roi.width), nothing

    for strip in track_objects(ahead()):
        yield strip, below.pop(0)


@dataclass(frozen=True, slots=True)
class _Done:
    """Complete objects: class ids (n,), sums (n, width) and perimeters (n,)."""

    ids: Labels
    sums: FloatArray
    perimeters: FloatArray


@dataclass(slots=True)
class _Totals:
    """Sums and perimeters of the objects that may continue below."""

    sums: FloatArray
    ids: Labels = field(default_factory=lambda: np.zeros(0, np.uint8))
    perimeters: PerimeterCounter = field(default_factory=PerimeterCounter)

    def add(
        self,
        strip: Strip,
        below: Labels,
        sides: FloatArray,
        runs: "_Runs",
        sums: FloatArray,
    ) -> _Done:
        """Add the sums (count, width) of a strip; return the complete objects.

        Parameters
        ----------
        strip
            The strip below the last one.
        below
            Labels of the row below it.
        sides
            Side of a pixel in each row.
        runs
            Runs of the strip.
        sums
            Sums of its objects.
        """
        lengths = self.perimeters.add(strip, below, sides)
        np.add.at(sums, strip.carried, self.sums)
        ids = np.zeros(strip.count + 1, np.uint8)
        ids[runs.objects + 1] = strip.labels.ravel()[runs.starts]
        ids = ids[1:]
        ids[strip.carried] = self.ids
        done = np.ones(strip.count, bool)
        done[strip.open] = False
        self.sums, self.ids = sums[strip.open], ids[strip.open]
        return _Done(ids[done], sums[done], lengths[done])


FIXED = 6  # columns of sums before those of the bands


@dataclass(frozen=True, slots=True)
class _Runs:
    """Pieces of the rows of a strip with one object each, from left to right.

    ``starts`` are indices into the flat strip, ``objects`` is -1 without an object.
    """

    starts: IntArray
    lengths: IntArray
    objects: IntArray

    @classmethod
    def of(cls, strip: Strip) -> "_Runs":
        """Return the runs of a strip."""
        begins = np.ones(strip.objects.shape, bool)
        begins[:, 1:] = strip.objects[:, 1:] != strip.objects[:, :-1]
        starts = np.flatnonzero(begins)
        lengths = np.diff(starts, append=begins.size)
        return cls(starts, lengths, strip.objects.ravel()[starts])

    def sums(self, values: npt.NDArray) -> FloatArray:
        """Return the sum of the values (height, width) of each run."""
        found = np.add.reduceat(values.ravel(), self.starts, dtype=np.int64)
        return found.astype(np.float64)


@dataclass(slots=True)
class _Table:
    """Sums that are needed for the columns, and the columns that follow from them.

    Sums of an object: pixels, area, rows, columns, confidence, pixels with confidence,
    and for an image valid pixels and the intensity of each band.
    """

    store: "LabelStore"
    image: "Image | None"
    area: PixelArea

    @property
    def width(self) -> int:
        return FIXED if self.image is None else FIXED + 1 + len(self.image.bands)

    def row_areas(self, roi: Roi) -> FloatArray:
        """Return the area of a pixel in each row, in the middle of the image."""
        return self.area.rows(Roi(roi.y, 0, roi.height, self.store.shape[1]))

    def sums(self, strip: Strip, runs: "_Runs") -> FloatArray:
        """Return the sums of the objects of a strip, (count, width)."""
        found = np.zeros((strip.count, self.width))
        if not strip.labels.any():
            return found

        def total(values: npt.NDArray) -> FloatArray:
            found = np.bincount(runs.objects + 1, values, strip.count + 1)[1:]
            return found.astype(np.float64)

        y, x = np.divmod(runs.starts, strip.roi.width)
        length, roi = runs.lengths, strip.roi
        middle = roi.x + x + (length - 1) / 2
        confidence = read_array(self.store.confidence[0], roi.slices)
        found[:, 0], found[:, 1] = total(length), total(self.row_areas(roi)[y] * length)
        found[:, 2], found[:, 3] = total((roi.y + y) * length), total(middle * length)
        found[:, 4] = total(runs.sums(confidence))
        found[:, 5] = total(runs.sums(confidence > 0))
        if self.image is not None:
            self._add_intensities(found[:, FIXED:], strip)
        return found

    def _add_intensities(self, found: FloatArray, strip: Strip) -> None:
        """Add valid pixels and the sums of the bands, in parts of the strip's width."""
        assert self.image is not None
        for part in _parts(strip.roi):
            at = strip.objects[:, part.x - strip.roi.x : part.right - strip.roi.x] + 1
            if not (at > 0).any():
                continue
            pixels = self.image.read(part)
            at = np.where(pixels.valid, at, 0).ravel()
            found[:, 0] += np.bincount(at, None, strip.count + 1)[1:]
            for band in range(pixels.data.shape[2]):
                values = np.where(pixels.valid, pixels.data[..., band], 0).ravel()
                found[:, 1 + band] += np.bincount(at, values, strip.count + 1)[1:]

    def columns(self, done: _Done) -> Columns:
        """Return the columns of complete objects."""
        names = {c.id: c.name for c in self.store.legend}
        pixels, area, rows, columns, confidence, known = done.sums.T[:FIXED]
        unit = UNITS[self.area.unit]
        if self.area.pixel is not None:
            area = pixels * self.area.pixel
        found: Columns = {
            "class_id": done.ids.astype(np.int32),
            "class": np.array([names[i] for i in done.ids.tolist()], object),
            "pixels": pixels.astype(np.int64),
        }
        if unit != "px":
            found[f"area_{unit}2"] = area
        found[f"perimeter_{unit}"] = done.perimeters
        with np.errstate(invalid="ignore", divide="ignore"):
            column, row = columns / pixels, rows / pixels
            found |= self._position(column, row)
            found["column"], found["row"] = column, row
            round_ = 4 * np.pi * area / done.perimeters**2
            found["circularity"] = np.where(done.perimeters > 0, round_, np.nan)
            found["mean_confidence"] = (confidence / known - 1) / 254
            if self.image is not None:
                valid = done.sums[:, FIXED]
                for i, name in enumerate(_band_columns(self.image)):
                    found[name] = done.sums[:, FIXED + 1 + i] / valid
        return found

    def _position(self, column: FloatArray, row: FloatArray) -> Columns:
        """Return the position of pixels on the map or on the slide."""
        store, x, y = self.store, column + 0.5, row + 0.5
        if store.affine is not None and store.crs is not None:
            a, b, c, d, e, f = store.affine
            return {"x": a * x + b * y + c, "y": d * x + e * y + f}
        if store.pixel_size is not None and store.unit == "micrometer":
            height, width = store.pixel_size
            return {"x_um": x * width, "y_um": y * height}
        return {}


def _parts(roi: Roi) -> Iterator[Roi]:
    """Yield parts of a strip from left to right, which bound the memory of reading."""
    for left in range(roi.x, roi.right, READ_COLUMNS):
        yield Roi(roi.y, left, roi.height, READ_COLUMNS).intersect(roi)


def _band_columns(image: "Image") -> list[str]:
    """Return the names of the columns of the bands, which differ in any case."""
    found: list[str] = []
    taken: set[str] = set()
    for number, band in enumerate(image.bands, 1):
        name = f"mean_{band.name or number}"
        if name.lower() in taken:
            name = f"{name}_{number}"
        taken.add(name.lower())
        found.append(name)
    return found
