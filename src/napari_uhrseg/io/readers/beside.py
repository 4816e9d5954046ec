"""Files beside an image that give its position, overviews, mask or nodata to GDAL."""

from pathlib import Path

from napari_uhrseg.io.paths import PathOrUrl

OVERVIEWS_AND_MASKS = (".ovr", ".OVR", ".msk", ".MSK")
# elements of .aux.xml files that change how a picture is read
AUXILIARY = (
    b"<SRS",
    b"<GeoTransform",
    b"<GCPList",
    b"<NoDataValue",
    b"<Scale>",
    b"<Offset>",
)
MAPINFO = b"!table"  # first word of a MapInfo table; other .tab files are of others


def files_beside(path: Path) -> list[Path]:
    """Return the files beside an image by which GDAL reads it in another way.

    They are world files, MapInfo tables, overviews, masks, and those ``.aux.xml``
    files that state a position, nodata, a scale or an offset.
    """
    suffix = path.suffix
    endings = [".wld"]
    if len(suffix) > 1:
        endings += [f"{suffix[:2]}{suffix[-1]}w", f"{suffix}w"]
    found = [path.with_suffix(s) for e in endings for s in (e.lower(), e.upper())]
    found += [path.with_name(path.name + s) for s in OVERVIEWS_AND_MASKS]
    tables = [path.with_suffix(s) for s in (".tab", ".TAB")]
    found += [file for file in tables if _start(file).lower().startswith(MAPINFO)]
    auxiliary = path.with_name(f"{path.name}.aux.xml")
    text = _start(auxiliary, -1)
    if any(mark in text for mark in AUXILIARY):
        found.append(auxiliary)
    return [file for file in dict.fromkeys(found) if file.is_file() and file != path]


def unused_files(path: PathOrUrl) -> tuple[str, ...]:
    """Return a warning about the files beside an image, which its reader ignores."""
    if not isinstance(path, Path) or not path.is_file():
        return ()
    names = [file.name for file in files_beside(path)]
    if not names:
        return ()
    return (
        f"{', '.join(names)} beside {path.name} {'are' if len(names) > 1 else 'is'} "
        "not used: such files apply to TIFF (but not OME-TIFF), PNG and JPEG. Convert "
        "the image with gdal_translate -co TILED=YES to use their position, overviews, "
        "masks and nodata.",
    )


def _start(file: Path, size: int = 16) -> bytes:
    """Return the first bytes of a file (-1: all); none if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(size)
    except OSError:
        return b""
