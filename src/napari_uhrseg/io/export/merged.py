"""One file of the labels of several images: a mosaic or a GeoPackage.

All images have one coordinate system. In a mosaic their pixels have one size;
positions are rounded to whole pixels. Where images overlap, the first one with a label
counts. The pixels of a mosaic are read while it is written: memory is that of an export
of one image of its size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import atomic_target, check_crs, export
from napari_uhrseg.io.export.geopackage import check_pyogrio, write_layer
from napari_uhrseg.io.export.polygons import check_georeferenced
from napari_uhrseg.io.export.registry import WriteOptions, check_request, shown_legend
from napari_uhrseg.types import LabelClass, Labels, Legend, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

FORMATS = ("cog", "geopackage")
COARSEST = 2048  # px, side below which a mosaic has no further level
SAME = 1e-6  # relative difference of the sides of pixels of one size


def export_merged(
    stores: "Sequence[tuple[str, LabelStore]]",
    path: Path | str,
    format_name: str,
    *,
    simplify: float = 0.0,
    smooth: float = 0.0,
    overwrite: bool = False,
) -> Iterator[float]:
    """Write the displayed labels of several stores to one file.

    Parameters
    ----------
    stores
        Name of each image, and its label store. At least one.
    path
        File to write.
    format_name
        ``cog`` for a mosaic; ``geopackage`` for polygons with the field ``image``.
    simplify
        Polygons only: tolerance of the simplification in pixels, 0 or more.
    smooth
        Polygons only: distance of the smoothing in pixels, 0 or more.
    overwrite
        If True, an existing file is replaced once the new one is complete.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.

    Raises
    ------
    ExportError
        If the format cannot contain several images, an image has no or another
        coordinate system, the pixels of a mosaic differ in size, two stores have
        different classes of one id, or the file exists or cannot be written.
    StoreError
        If part of a store is damaged.
    """
    target = Path(path).absolute()
    check_merged(format_name, target, simplify, smooth)
    _check_one_crs(stores)
    if format_name == "cog":
        mosaic = cast("LabelStore", Mosaic([store for _, store in stores]))
        yield from export(mosaic, target, "cog", overwrite=overwrite)
        return
    options = WriteOptions(simplify, smooth=smooth)
    with atomic_target(target, overwrite=overwrite) as building:
        for done in write_layer(stores, building, options, _one_legend(stores)):
            yield min(done, 0.99)
    yield 1.0


def check_merged(
    format_name: str, target: Path, simplify: float, smooth: float = 0.0
) -> None:
    """Check that a format can contain several images, and the options.

    Parameters
    ----------
    format_name
        Name of the format.
    target
        File to write.
    simplify
        Tolerance of the simplification in pixels.
    smooth
        Distance of the smoothing in pixels.

    Raises
    ------
    ExportError
        If they do not fit together.
    """
    if format_name not in FORMATS:
        raise ExportError(
            f"The format {format_name!r} does not contain several images.",
            f"Choose {' or '.join(FORMATS)}, or write a file for each image.",
        )
    check_request(format_name, target, simplify, smooth)
    if format_name == "geopackage":
        check_pyogrio()


def rounding(stores: "Sequence[tuple[str, LabelStore]]") -> float:
    """Return by how many pixels the images are moved at most in a mosaic."""
    return max(place.rounded for place in _places([store for _, store in stores]))


def _check_one_crs(stores: "Sequence[tuple[str, LabelStore]]") -> None:
    from rasterio.crs import CRS

    systems = {}
    for name, store in stores:
        check_georeferenced(store, f"One file of several images ({name})")
        check_crs(store)
        systems[name] = CRS.from_wkt(store.crs)
    first = next(iter(systems))
    other = next((n for n, crs in systems.items() if crs != systems[first]), None)
    if other is not None:
        raise ExportError(
            f"{first} and {other} have different coordinate systems.",
            "Choose images of one coordinate system (--image), or warp the images "
            "with gdalwarp.",
        )


def _one_legend(stores: "Sequence[tuple[str, LabelStore]]") -> Legend:
    """Return the displayed classes of all stores. Raises ExportError for conflicts."""
    found: dict[int, LabelClass] = {}
    for name, store in stores:
        for label in shown_legend(store):
            known = found.setdefault(label.id, label)
            if known.name != label.name:
                raise ExportError(
                    f"Class {label.id} is {label.name!r} in {name}, and {known.name!r} "
                    "in other images.",
                    "Give the images the classes of the project with `napari-uhrseg "
                    "project classes`.",
                )
    return Legend(tuple(found[i] for i in sorted(found)))


@dataclass(frozen=True, slots=True)
class _Place:
    """Position of a store in the mosaic in pixels, and what was rounded."""

    store: "LabelStore"
    y: int
    x: int
    rounded: float


@dataclass(frozen=True, slots=True)
class _Level:
    """Shape of a level, which exporters read from arrays."""

    shape: tuple[int, int]


class Mosaic:
    """Labels of several stores on one grid.

    It has the attributes of a `LabelStore` that the raster exporters read.

    Parameters
    ----------
    stores
        Stores of one coordinate system and pixel size.
    """

    def __init__(self, stores: "Sequence[LabelStore]") -> None:
        found = _places(stores)
        top, left = min(p.y for p in found), min(p.x for p in found)
        self._places = [_Place(p.store, p.y - top, p.x - left, 0.0) for p in found]
        first = stores[0]
        self.shape = (
            max(p.y + p.store.shape[0] for p in self._places),
            max(p.x + p.store.shape[1] for p in self._places),
        )
        a, b, c, d, e, f = first.affine or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        origin = a * left + b * top + c, d * left + e * top + f
        self.affine = (a, b, origin[0], d, e, origin[1])
        self.path, self.name = first.path, first.name
        self.pixel_size, self.unit, self.crs = first.pixel_size, first.unit, first.crs
        self.legend = _one_legend([(s.path.name, s) for s in stores])
        self.aliases: dict[int, int] = {}
        shape, levels = self.shape, [_Level(self.shape)]
        while max(shape) > COARSEST:
            shape = -(-shape[0] // 2), -(-shape[1] // 2)
            levels.append(_Level(shape))
        self.prediction = tuple(levels)

    def read_labels(self, roi: Roi, level: int = 0) -> Labels:
        """Return the labels of a rectangle of level-0 pixels at a level.

        Coarser levels are those of the stores, at the nearest whole pixel.
        """
        here = roi.at_scale(2**level)
        labels = np.zeros((here.height, here.width), np.uint8)
        for place in self._places:
            shift = [-_nearest(at / 2**level) for at in (place.y, place.x)]
            shape = [-(-side // 2**level) for side in place.store.shape]
            part = here.shift(*shift).intersect(Roi(0, 0, *shape))
            if not part.area:
                continue
            there = part.shift(-shift[0] - here.y, -shift[1] - here.x).slices
            known = labels[there]
            if not known.all():
                found = _level(place.store, part, level)
                labels[there] = np.where(known, known, found)
        return labels


def _nearest(offset: float) -> int:
    """Return an offset of pixels of a level, rounded by the centres of its pixels."""
    return int(np.ceil(offset - 0.5))


def _level(store: "LabelStore", part: Roi, level: int) -> Labels:
    """Return a part of a level of a store, also beyond its coarsest level."""
    last = min(level, len(store.prediction) - 1)
    scale, more = 2**last, 2 ** (level - last)
    whole = Roi(part.y * more, part.x * more, part.height * more, part.width * more)
    found = store.read_labels(
        Roi(whole.y * scale, whole.x * scale, whole.height * scale,
            whole.width * scale), last,
    )  # fmt: skip
    if more == 1:
        return found
    rows = _middles(part.height, more, found.shape[0])
    columns = _middles(part.width, more, found.shape[1])
    return found[np.ix_(rows, columns)]


def _middles(count: int, step: int, size: int) -> npt.NDArray[np.int64]:
    return np.minimum(np.arange(count) * step + step // 2, size - 1)


def _places(stores: "Sequence[LabelStore]") -> list[_Place]:
    """Return the positions of stores in pixels of the first one.

    Raises
    ------
    ExportError
        If their pixels differ in size or direction.
    """
    first = stores[0].affine or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    matrix = np.array([[first[0], first[1]], [first[3], first[4]]])
    found = []
    for store in stores:
        a, b, c, d, e, f = store.affine or first
        if (
            np.abs(np.array([[a, b], [d, e]]) - matrix).max()
            > SAME * np.abs(matrix).max()
        ):
            raise ExportError(
                f"The pixels of {store.path.name} have another size or direction than "
                f"those of {stores[0].path.name}.",
                "Warp the images to one grid with gdalwarp (-tr), or write one "
                "GeoPackage, which needs no grid.",
            )
        x, y = np.linalg.solve(matrix, [c - first[2], f - first[5]])
        at = round(float(y)), round(float(x))
        off = max(abs(float(y) - at[0]), abs(float(x) - at[1]))
        found.append(_Place(store, *at, off))
    return found
