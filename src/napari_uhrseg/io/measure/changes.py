"""Changes between two label stores of one place: transition matrix and map.

Both stores have the same grid and the same displayed classes; see `check_comparable`.
Memory is that of two strips of labels, and of a matrix of 256 x 256 numbers. The map is
computed while it is exported.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import export
from napari_uhrseg.io.export.pixel_area import Unit, pixel_area
from napari_uhrseg.io.export.registry import format_named, shown_legend
from napari_uhrseg.io.vectorize.label_strips import read_strips
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import LabelClass, Labels, Legend, Roi
from napari_uhrseg.units import formatted, quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

UNLABELLED = "unlabelled"
UNCHANGED = LabelClass(1, "unchanged", "#c8c8c8")
OTHER = LabelClass(255, "other changes", "#000000")
TARGET_SHARE = 0.75  # of the second class in the colour of a change
PIXEL_ERROR = 1e-3  # pixels by which the corners of two grids may differ
MATRIX_UNITS: dict[Unit, tuple[str, float]] = {
    "px": ("px", 1.0), "µm²": ("mm2", 1e-6), "m²": ("ha", 1e-4),
}  # fmt: skip
FORMATS = {".tif": "cog", ".tiff": "cog", ".gpkg": "geopackage", ".geojson": "geojson",
           ".json": "geojson"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Transitions:
    """Areas that have one class in the first store and one in the second.

    Attributes
    ----------
    names
        Names of the rows and columns: unlabelled, then the K displayed classes.
    ids
        Class ids of the first store in this order, 0 for unlabelled.
    pixels
        (K + 1, K + 1) int64, first class in rows.
    areas
        (K + 1, K + 1) float64 in the unit.
    unit
        Unit of the areas: m², µm² or px.
    basis
        Description of how the areas are computed.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    pixels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    unit: Unit
    basis: str

    @property
    def changed(self) -> float:
        """Area with different classes in the two stores, in the unit."""
        labelled = self.areas[1:, 1:]
        return float(labelled.sum() - labelled.trace())

    @property
    def compared(self) -> float:
        """Area with a class in both stores, in the unit."""
        return float(self.areas[1:, 1:].sum())

    def to_csv(self) -> str:
        """Return the matrix as CSV in ha, mm² or pixels, which the first cell names."""
        name, factor = MATRIX_UNITS[self.unit]
        text = StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow([f"from_to_{name}", *self.names])
        for label, row in zip(self.names, self.areas * factor, strict=True):
            out.writerow([label, *(f"{value:.10g}" for value in row.tolist())])
        return text.getvalue()


def compare_labels(
    first: "LabelStore", second: "LabelStore", limits: VectorLimits = VectorLimits()
) -> Iterator[float | Transitions]:
    """Count the transitions between the displayed labels of two stores.

    Parameters
    ----------
    first, second
        Label stores of one grid with the same displayed classes.
    limits
        Sizes of the reads.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    Transitions
        The result, last.

    Raises
    ------
    ExportError
        If the stores differ in their grid or in their classes.
    StoreError
        If part of a store is damaged.
    """
    table = _second_to_first(first, second)
    sizes = pixel_area(first)
    pixels, areas = np.zeros(1 << 16, np.int64), np.zeros(1 << 16)
    whole = Roi(0, 0, *first.shape)
    strips = read_strips(first, whole, limits), read_strips(second, whole, limits)
    for (roi, before), (_, after) in zip(*strips, strict=True):
        pairs = (before.astype(np.uint16) << 8 | table[after]).ravel()
        pixels += np.bincount(pairs, minlength=1 << 16)
        if sizes.pixel is None:
            weights = np.repeat(sizes.rows(roi), roi.width)
            areas += np.bincount(pairs, weights, 1 << 16)
        yield roi.bottom / whole.height
    if sizes.pixel is not None:
        areas[:] = pixels * sizes.pixel
    legend = shown_legend(first)
    ids = (0, *(c.id for c in legend))
    at = np.ix_(ids, ids)
    yield Transitions(
        (UNLABELLED, *(c.name for c in legend)),
        ids,
        pixels.reshape(256, 256)[at],
        areas.reshape(256, 256)[at],
        sizes.unit,
        sizes.basis,
    )


def write_changes(
    stores: "tuple[LabelStore, LabelStore]",
    transitions: Transitions,
    path: Path | str,
    *,
    overwrite: bool = False,
) -> Iterator[float]:
    """Write a map of the changes between two stores.

    Parameters
    ----------
    stores
        The two stores that were compared.
    transitions
        Result of `compare_labels`.
    path
        GeoTIFF (with a class for what has not changed), GeoPackage or GeoJSON (only
        changes; in pixels for QuPath if the image has no coordinate system).
    overwrite
        If True, an existing file is replaced once the new one is complete.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.

    Raises
    ------
    ExportError
        If the path has another suffix, exists or cannot be written.
    StoreError
        If part of a store is damaged.

    Notes
    -----
    Class names are ``FROM → TO``. Only pixels with a class in both stores have one. The
    254 largest changes (253 in a GeoTIFF) have a class each, the rest is one class.
    """
    target, first = Path(path), stores[0]
    name = check_map(target, first)
    is_vector = format_named(name).is_vector
    changes = ChangeMap(*stores, transitions, unchanged=not is_vector)
    yield from export(cast("LabelStore", changes), target, name, overwrite=overwrite)


def check_map(path: Path, store: "LabelStore") -> str:
    """Return the name of the format of a map of changes.

    Parameters
    ----------
    path
        File to write.
    store
        One of the stores.

    Raises
    ------
    ExportError
        If the suffix is of another kind of file.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ExportError(
            f"{path.name} does not end in {', '.join(FORMATS)}; nothing was written.",
            "Choose a name with one of these suffixes.",
        )
    if FORMATS[suffix] == "geojson" and store.crs is None:
        return "qupath"
    return FORMATS[suffix]


class ChangeMap:
    """Changes as labels that are computed when they are read.

    It has the attributes of a `LabelStore` that the exporters read.

    Parameters
    ----------
    first, second
        The two stores.
    transitions
        Result of `compare_labels`.
    unchanged
        True if pixels that have not changed have a class.
    """

    def __init__(
        self,
        first: "LabelStore",
        second: "LabelStore",
        transitions: Transitions,
        *,
        unchanged: bool,
    ) -> None:
        self._first, self._second = first, second
        self._to_first = _second_to_first(first, second)
        self.legend, self._codes = _coded(shown_legend(first), transitions, unchanged)
        self.name, self.path, self.shape = first.name, first.path, first.shape
        self.pixel_size, self.unit = first.pixel_size, first.unit
        self.crs, self.affine = first.crs, first.affine
        # only chunks with labels in the first store can have changes
        self.prediction, self.correction = first.prediction, first.correction
        self.aliases: dict[int, int] = {}

    def read_labels(self, roi: Roi, level: int = 0) -> Labels:
        """Return the changes in a rectangle of level-0 pixels, 0 without one."""
        before = self._first.read_labels(roi, level)
        after = self._to_first[self._second.read_labels(roi, level)]
        found: Labels = self._codes[before, after]
        return found


def _coded(
    classes: Legend, transitions: Transitions, unchanged: bool
) -> tuple[Legend, Labels]:
    """Return the classes of changes, and the class of each pair (256, 256)."""
    colors = {c.id: c.rgb for c in classes}
    codes = np.zeros((256, 256), np.uint8)
    legend = [UNCHANGED] if unchanged else []
    if unchanged:
        codes[list(transitions.ids[1:]), list(transitions.ids[1:])] = UNCHANGED.id
    pairs = [
        (float(transitions.areas[i, j]), i, j)
        for i, j in np.argwhere(transitions.pixels > 0).tolist()
        if i and j and i != j
    ]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    for _, i, j in pairs:
        one, other = transitions.ids[i], transitions.ids[j]
        code = min(len(legend) + 1, OTHER.id)
        codes[one, other] = code
        if code < OTHER.id:
            name = f"{transitions.names[i]} → {transitions.names[j]}"
            legend.append(LabelClass(code, name, _mixed(colors[one], colors[other])))
        elif legend[-1] is not OTHER:
            legend.append(OTHER)
    return Legend(tuple(legend)), codes


def _mixed(one: tuple[int, int, int], other: tuple[int, int, int]) -> str:
    """Return a colour near that of the second class."""
    parts = (
        round(b * TARGET_SHARE + a * (1 - TARGET_SHARE))
        for a, b in zip(one, other, strict=True)
    )
    return "#" + "".join(f"{part:02x}" for part in parts)


# -- comparable stores ----------------------------------------------------------------


def check_comparable(first: "LabelStore", second: "LabelStore") -> None:
    """Check that two stores have the same grid and the same displayed classes.

    Raises
    ------
    ExportError
        If they differ; the message names both sides.
    """
    _check_grid(first, second)
    _second_to_first(first, second)


def _second_to_first(first: "LabelStore", second: "LabelStore") -> Labels:
    """Return the class id of the first store for each id of the second one."""
    _check_grid(first, second)
    one = {c.name: c.id for c in shown_legend(first)}
    other = {c.name: c.id for c in shown_legend(second)}
    if one.keys() != other.keys():
        only = [
            f"only {store.path.name} has {quoted(sorted(mine.keys() - theirs.keys()))}"
            for store, mine, theirs in ((first, one, other), (second, other, one))
            if mine.keys() - theirs.keys()
        ]
        raise ExportError(
            f"The label stores have different classes: {'; '.join(only)}.",
            "Rename or merge classes with `napari-uhrseg classes` until both have the "
            "same names.",
        )
    table = np.zeros(256, np.uint8)
    for name, class_id in other.items():
        table[class_id] = one[name]
    return table


def _check_grid(first: "LabelStore", second: "LabelStore") -> None:
    reason = _difference(first, second)
    if reason:
        raise ExportError(
            f"The label stores are not of one grid: {reason}.",
            "Warp one image to the grid of the other (for example with gdalwarp -te "
            "-tr -t_srs), and segment it again.",
        )


def _difference(first: "LabelStore", second: "LabelStore") -> str:
    """Return how the grids of two stores differ; empty if they are equal."""
    names = first.path.name, second.path.name
    if first.shape != second.shape:
        sizes = [
            f"{formatted(s.shape[1])} x {formatted(s.shape[0])} pixels"
            for s in (first, second)
        ]
        return f"{names[0]} has {sizes[0]}, and {names[1]} has {sizes[1]}"
    if not _same_crs(first.crs, second.crs):
        return f"{names[0]} and {names[1]} have different coordinate systems"
    if (first.affine is None) != (second.affine is None):
        return f"only one of {names[0]} and {names[1]} has map coordinates"
    if first.affine is not None and second.affine is not None:
        height, width = first.shape
        corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1)])
        places = [
            corners @ np.reshape(affine, (2, 3)).T
            for affine in (first.affine, second.affine)
        ]
        side = np.hypot(first.affine[0], first.affine[3])
        off = float(np.abs(places[0] - places[1]).max() / side)
        if off > PIXEL_ERROR:
            return f"their corners are up to {formatted(off, ',.3g')} pixels apart"
    if first.pixel_size != second.pixel_size or first.unit != second.unit:
        sizes = [_pixel(s) for s in (first, second)]
        return f"pixels are {sizes[0]} in {names[0]}, and {sizes[1]} in {names[1]}"
    return ""


def _same_crs(one: str | None, other: str | None) -> bool:
    if one == other or one is None or other is None:
        return one == other
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return bool(CRS.from_wkt(one) == CRS.from_wkt(other))
    except CRSError:
        return False


def _pixel(store: "LabelStore") -> str:
    if store.pixel_size is None:
        return "of unknown size"
    height, width = store.pixel_size
    return f"{width:g} x {height:g} {store.unit}"
