"""OME-XML of OME-TIFF files: checks, files of a set, names and pixel sizes."""

import copy
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.readers.registry import RefusedError
from napari_uhrseg.units import formatted

COMPANION = ".companion.ome"  # suffix of the OME-XML file of a set of TIFF files
MAX_COMPANION_BYTES = 256 * 1024**2
MIN_PLANE_BYTES = 64  # bytes that a plane takes in a file at least
# lengths of the OME schema in micrometres; their names are normalised by `micrometres`
LENGTHS = {
    "Ym": 1e30, "Zm": 1e27, "Em": 1e24, "Pm": 1e21, "Tm": 1e18, "Gm": 1e15,
    "Mm": 1e12, "km": 1e9, "hm": 1e8, "dam": 1e7, "m": 1e6, "dm": 1e5, "cm": 1e4,
    "mm": 1e3, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "fm": 1e-9,
    "am": 1e-12, "\u00c5": 1e-4, "\u00e5": 1e-4, "thou": 25.4, "li": 25_400.0 / 12,
    "in": 25_400.0, "inch": 25_400.0, "inches": 25_400.0, "ft": 304_800.0,
    "yd": 914_400.0, "mi": 1.609344e9, "pt": 25_400.0 / 72, "micron": 1.0,
    "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nanometer": 1e-3,
    "millimeter": 1e3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OmeXml:
    """Checked OME-XML of a file.

    Attributes
    ----------
    text
        OME-XML for tifffile. The name of each ``Image`` is its index, so that a
        series leads to its element.
    images
        ``Image`` elements of the file.
    missing
        Names of the files of the set that are not in its folder.
    """

    text: str
    images: tuple[Any, ...]
    missing: tuple[str, ...] = ()

    def missing_text(self) -> str:
        """Return the names of the missing files, of which at most three are listed."""
        more = f" and {len(self.missing) - 3} others" if len(self.missing) > 3 else ""
        return ", ".join(self.missing[:3]) + more

    def image(self, series: Any) -> Any:
        """Return the ``Image`` element of a series, None for one of another kind."""
        if series.kind != "ome" or not str(series.name).isdecimal():
            return None
        return self.images[int(series.name)]


@dataclass(slots=True)
class _Set:
    """Files that an OME-XML names, relative to a folder."""

    folder: Path | None
    bytes: int
    missing: dict[str, None] = field(default_factory=dict)
    present: dict[str, Path] = field(default_factory=dict)

    def find(self, name: str) -> Path | None:
        """Return a file of the set, or None if it is missing or outside the folder."""
        if name in self.present:
            return self.present[name]
        if name in self.missing:
            return None
        path = None if self.folder is None else self.folder / name
        try:
            inside = path and path.resolve().is_relative_to(
                self.folder.resolve()  # type: ignore[union-attr]  # path has a folder
            )
            if path is not None and inside and path.is_file():
                self.bytes += path.stat().st_size
                self.present[name] = path
                return path
        except (OSError, ValueError):
            pass  # the name cannot be that of a file
        self.missing[name] = None
        return None


def parse(text: str, path: PathOrUrl, tif: Any) -> OmeXml:
    """Check the OME-XML of a file and prepare it for tifffile.

    Parameters
    ----------
    text
        OME-XML, or the reference to that of a companion file.
    path
        File with the pixels.
    tif
        The same file, open (``tifffile.TiffFile``).

    Returns
    -------
    OME-XML without references to missing files.

    Raises
    ------
    ValueError
        If the XML is not valid, or does not match the pages of the file.
    RefusedError
        If its sizes exceed what the files can contain.
    """
    root, images = _parsed(text)
    folder = path.parent if isinstance(path, Path) else None
    if (reference := _child(root, "BinaryOnly")) is not None:
        own = root.get("UUID")
        root, images = _parsed(_companion(reference, path))
        if own:  # the pages of this file are found by its own identifier
            root.set("UUID", own)
    if not images:
        raise ValueError("it describes no image")
    originals = tuple(copy.deepcopy(image) for image in images)
    files = _Set(folder, path.stat().st_size)
    _resolve_files(root, files, path.name)
    for number, image in enumerate(images):
        image.set("Name", str(number))
        _check_sizes(image, files, tif, path.name, root.get("UUID"))
    _check_modulo(root, files, path.name)
    return OmeXml(
        ElementTree.tostring(root, encoding="unicode"), originals, tuple(files.missing)
    )


def _companion_root(path: Path) -> Any:
    text = _companion_text(path)
    try:
        root, _ = _parsed(text)
    except ValueError as error:
        raise OpenError(
            f"{path.name} is not valid OME-XML: {error}.",
            "Open one of the TIFF files that belong to it.",
        ) from error
    return root


def set_of_companion(path: Path) -> tuple[Path, str]:
    """Return the first existing TIFF file of a companion file, and the OME-XML.

    Raises
    ------
    OpenError
        If the file is not valid, or if none of its TIFF files exists.
    """
    root = _companion_root(path)
    files = _Set(path.parent, 0)
    for uuid in _elements(root, "UUID"):
        name = uuid.get("FileName")
        if name and (found := files.find(name)) is not None:
            if uuid.text:
                root.set("UUID", uuid.text)
            return found, ElementTree.tostring(root, encoding="unicode")
    named = ", ".join(list(files.missing)[:3]) or "none"
    raise RefusedError(
        f"{path.name} describes TIFF files, of which none is in its folder: {named}.",
        "Copy the TIFF files into the folder of the companion file.",
    )


def micrometres(unit: str) -> float | None:
    """Return the length of a unit in micrometres, or None for an unknown unit."""
    # the micro sign and the sign of the angstrom have two code points each
    name = unicodedata.normalize("NFKC", unit.strip())
    return LENGTHS.get(name) or LENGTHS.get(name.lower())


def channel_names(image: Any) -> list[str]:
    """Return the names of the channels of an ``Image`` element; empty for unnamed."""
    channels = (e for e in _children(image, "Pixels") if _local(e) == "Channel")
    return [c.get("Name") or c.get("Fluor") or "" for c in channels]


def emission_wavelengths(image: Any) -> list[float | None]:
    """Return the emission wavelength of each channel in nm; None if not stated."""
    channels = [e for e in _children(image, "Pixels") if _local(e) == "Channel"]
    stated = [
        (c.get("EmissionWavelength"), c.get("EmissionWavelengthUnit", "nm"))
        for c in channels
    ]
    found = [1000 * _length(value, unit) for value, unit in stated]
    return [value if 0 < value < math.inf else None for value in found]


def _length(value: str | None, unit: str) -> float:
    """Return a length in µm; NaN if it is not a number or has an unknown unit."""
    try:
        return float(value or "nan") * (micrometres(unit) or math.nan)
    except ValueError:
        return math.nan


def physical_size(image: Any) -> tuple[tuple[float, float] | None, str]:
    """Return the size of a pixel that an ``Image`` element states.

    Returns
    -------
    (height, width) in µm, or None; and a warning if a stated size cannot be used.
    """
    pixels = _child(image, "Pixels")
    stated = [
        (pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm"))
        for a in "YX"
    ]
    if all(value is None for value, _ in stated):
        return None, ""
    sizes = [_length(value, unit) for value, unit in stated]
    if all(math.isfinite(s) and s > 0 for s in sizes):
        return (sizes[0], sizes[1]), ""
    shown = " x ".join(f"{value} {unit}" for value, unit in stated)
    return None, (
        f"The OME-XML states pixels of {shown} (height x width), which is not a "
        "length: the pixel size is not known."
    )


def states_size(image: Any) -> bool:
    """Return whether an ``Image`` element states a pixel size, usable or not."""
    pixels = _child(image, "Pixels")
    return pixels is not None and any(pixels.get(f"PhysicalSize{a}") for a in "YX")


def _parsed(text: str) -> tuple[Any, list[Any]]:
    """Return the root and its ``Image`` elements. Raises ValueError if not valid."""
    try:
        root = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    return root, [e for e in root if _local(e) == "Image"]


def _companion(reference: Any, path: PathOrUrl) -> str:
    """Return the OME-XML of the companion file beside a TIFF file."""
    name = reference.get("MetadataFile") or ""
    if not isinstance(path, Path):
        raise ValueError(f"it is in the file {name}, which is not read from a URL")
    found = _Set(path.parent, 0).find(name)
    if found is None:
        raise ValueError(
            f"it is in the file {name or 'without a name'}, which is not in the folder "
            f"of {path.name}"
        )
    if found.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(found) as tif:
            return str(tif.ome_metadata or "")
    return _companion_text(found)


def _companion_text(path: Path) -> str:
    if path.stat().st_size > MAX_COMPANION_BYTES:
        raise OpenError(
            f"{path.name} has {formatted(path.stat().st_size)} bytes, too many for "
            "OME-XML.",
            "Open one of the TIFF files that belong to it.",
        )
    return path.read_text("utf-8", errors="replace")


def _resolve_files(root: Any, files: _Set, own_name: str) -> None:
    """Remove references to missing files, and to files without a name."""
    own = root.get("UUID")
    names = {u.get("FileName") for u in _elements(root, "UUID") if u.get("FileName")}
    if not own and len(names) == 1 and files.find(next(iter(names))) is None:
        # all planes are in one file, which was renamed
        own_name = names.pop()
        files.missing.clear()
    for pixels in list(_elements(root, "Pixels")):
        for data in [e for e in pixels if _local(e) == "TiffData"]:
            uuid = _child(data, "UUID")
            if uuid is None or (own and uuid.text == own):
                continue
            name = uuid.get("FileName")
            if not name or (not own and name.lower() == own_name.lower()):
                data.remove(uuid)  # the pages of this file
            elif files.find(name) is None:
                pixels.remove(data)


def _check_sizes(
    image: Any, files: _Set, tif: Any, name: str, own_uuid: str | None
) -> None:
    """Check the sizes of an image against the files before tifffile uses them.

    Parameters
    ----------
    image
        ``Image`` element.
    files
        Files of the set.
    tif
        Opened file (``tifffile.TiffFile``).
    name
        Name of the opened file in messages.
    own_uuid
        Identifier of the opened file.

    Raises
    ------
    ValueError
        If the sizes are not valid, or do not match the pages.
    RefusedError
        If the files are too small for the stated planes.
    """
    pixels = _child(image, "Pixels")
    if pixels is None:
        return
    sizes = {axis: int(pixels.get(f"Size{axis}", "")) for axis in "XYZCT"}
    if min(sizes.values()) < 1:
        raise ValueError(f"it states the sizes {sizes}")
    data = [e for e in pixels if _local(e) == "TiffData"]
    counts = [int(e.get("PlaneCount") or e.get("NumPlanes") or 0) for e in data]
    planes = max(sizes["Z"] * sizes["C"] * sizes["T"], *counts, 0)
    _check_count(planes, files, name)
    samples = [
        int(e.get("SamplesPerPixel", 1)) for e in pixels if _local(e) == "Channel"
    ]
    if samples and not 1 <= max(samples) <= sizes["C"]:
        raise ValueError(f"it states {max(samples)} samples in {sizes['C']} channels")
    own = [
        int(e.get("IFD", 0)) for e in data
        if (uuid := _child(e, "UUID")) is None or uuid.text == own_uuid
    ]  # fmt: skip
    for index in {*own[:1], *(i for i in own if i == 0)}:
        page = tif.pages[index] if 0 <= index < len(tif.pages) else None
        if page is not None and (page.imagewidth, page.imagelength) != (
            sizes["X"], sizes["Y"],
        ):  # fmt: skip
            raise ValueError(
                f"it states {sizes['X']} x {sizes['Y']} pixels, the file has "
                f"{page.imagewidth} x {page.imagelength}"
            )


def _check_modulo(root: Any, files: _Set, name: str) -> None:
    """Check the ranges of divided axes, which tifffile lists value by value."""
    for element in root.iter():
        if _local(element).startswith("ModuloAlong") and element.get("Start"):
            start, end, step = (
                float(element.get(key, 1)) for key in ("Start", "End", "Step")
            )
            _check_count(abs(end - start) / (abs(step) or 1e-9), files, name)


def _check_count(planes: float, files: _Set, name: str) -> None:
    if not planes <= files.bytes // MIN_PLANE_BYTES:
        raise RefusedError(
            f"{name} is damaged: its OME-XML states {formatted(planes, ',.0f')} "
            "planes, its files "
            f"have {formatted(files.bytes)} bytes.",
            "Copy or export it again.",
        )


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _elements(root: Any, name: str) -> Iterator[Any]:
    return (e for e in root.iter() if _local(e) == name)


def _children(element: Any, name: str) -> list[Any]:
    """Return the elements inside the child with a name."""
    child = _child(element, name)
    return [] if child is None else list(child)


def _child(element: Any, name: str) -> Any:
    if element is None:
        return None
    return next((e for e in element if _local(e) == name), None)
