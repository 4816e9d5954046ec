"""Registry of export formats.

Each module of this package registers its formats with `register_exporter`. An entry is
the only place that names a format: its title, suffix, kind and place in napari's Save
dialog.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

CheckFunction = Callable[["LabelStore", Path], None]


@dataclass(frozen=True, slots=True)
class ExportLimits(VectorLimits):
    """Upper bounds of an export, beside those of tracing.

    Attributes
    ----------
    batch_corners
        Corners of polygons that are written to a GeoPackage together.
    bigtiff_bytes
        Bytes of pixels above which a TIFF file is a BigTIFF.
    """

    batch_corners: int = 1_000_000
    bigtiff_bytes: int = 1 << 31


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of a writer.

    Attributes
    ----------
    simplify
        Tolerance of the simplification of outlines in pixels, 0 or more. Rasters
        ignore it.
    limits
        Upper bounds of memory and sizes.
    smooth
        Distance in pixels by which smoothing may move an outline, 0 or more. Rasters
        ignore it.
    """

    simplify: float = 0.0
    limits: ExportLimits = field(default_factory=ExportLimits)
    smooth: float = 0.0


WriteFunction = Callable[["LabelStore", Path, WriteOptions], Iterator[float]]


@dataclass(frozen=True, slots=True)
class Format:
    """Export format.

    Attributes
    ----------
    name
        Name on the command line.
    title
        Name in the window and in messages.
    suffix
        Suffix of the target, with the dot.
    write
        ``write(store, path, options)`` writes everything to a new path and yields
        the finished fraction, from 0 to 1.
    is_folder
        True if the target is a folder, which needs no suffix.
    is_vector
        True for polygons, which can be simplified; False for rasters.
    stores_crs
        True if the file contains the coordinate system, when the image has one.
    stores_pixel_size
        True if the file contains the pixel size, when the image has one.
    save_suffix
        Suffix by which napari's Save dialog selects the format. Empty: the dialog
        does not offer it.
    without_crs
        Name of the format that napari's Save dialog writes instead if the image has
        no coordinate system. Empty: this one.
    check
        ``check(store, path)`` raises ExportError if the store cannot be written to
        the target in this format.
    other_suffixes
        Further suffixes of targets, with the dot.
    finish
        ``finish(path)`` is called after the target has been moved to its final path.
    beside
        ``beside(store, path)`` writes a file beside the target, after ``finish``.
    """

    name: str
    title: str
    suffix: str
    write: WriteFunction
    is_folder: bool = False
    is_vector: bool = False
    stores_crs: bool = False
    stores_pixel_size: bool = False
    save_suffix: str = ""
    without_crs: str = ""
    check: CheckFunction = lambda _store, _path: None
    other_suffixes: tuple[str, ...] = ()
    finish: Callable[[Path], None] = lambda _path: None
    beside: Callable[["LabelStore", Path], None] = lambda _store, _path: None


_formats: dict[str, Format] = {}


def register_exporter(entry: Format) -> None:
    """Add a format to `formats`."""
    _formats[entry.name] = entry


@cache
def formats() -> tuple[Format, ...]:
    """Return all formats, sorted by name. This imports no format library."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return tuple(_formats[name] for name in sorted(_formats))


def format_named(name: str) -> Format:
    """Return the format of a name. Raises ExportError if there is none."""
    found = next((f for f in formats() if f.name == name), None)
    if found is None:
        raise ExportError(
            f"There is no format {name!r}.",
            f"Available formats: {', '.join(f.name for f in formats())}.",
        )
    return found


def check_request(
    format_name: str, target: Path, simplify: float, smooth: float = 0.0
) -> Format:
    """Return the format of an export, if the options fit together.

    Parameters
    ----------
    format_name
        Name of one of `formats`.
    target
        File or folder to create.
    simplify
        Tolerance of the simplification in pixels, 0 or more.
    smooth
        Distance of the smoothing in pixels, 0 or more.

    Raises
    ------
    ExportError
        If there is no such format, the target has the suffix of another kind of file,
        or a raster is to be simplified or smoothed.
    """
    chosen = format_named(format_name)
    if (simplify or smooth) and not chosen.is_vector:
        raise ExportError(
            f"Only outlines can be simplified or smoothed; {chosen.title} is a raster.",
            "Omit these options, or choose a polygon format.",
        )
    suffix = target.suffix.lower()
    of = [f.name for f in formats() if suffix in _suffixes(f)]
    if suffix and chosen.name not in of and (of or not chosen.is_folder):
        fits = f", or the format {' or '.join(of)}" if of else ""
        raise ExportError(
            f"{target.name} does not have a suffix of {chosen.title}; nothing was "
            "written.",
            f"Choose a name that ends in {chosen.suffix}{fits}.",
        )
    return chosen


def _suffixes(entry: Format) -> set[str]:
    """Return the last suffixes of a format's targets."""
    return {Path(f"a{s}").suffix for s in (entry.suffix, *entry.other_suffixes)}


def shown_legend(store: "LabelStore") -> Legend:
    """Return the displayed classes, without those merged into others."""
    return Legend(tuple(c for c in store.legend if c.id not in store.aliases))
