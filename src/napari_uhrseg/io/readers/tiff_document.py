"""Open TIFF files: their series, metadata and the files that belong to them."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.readers import tiff_ome
from napari_uhrseg.io.readers.common import fingerprint_file
from napari_uhrseg.io.readers.registry import RefusedError
from napari_uhrseg.io.readers.tiff_ome import OmeXml
from napari_uhrseg.io.readers.tiff_tiles import RangeReader, for_tifffile

MAX_OPEN_FILES = 32  # files of a set that are open at a time
TRANSPARENCY = 4  # bit of the subfile type of a mask


class FilePool:
    """Readers of the files of a set, of which a bounded number is open.

    Parameters
    ----------
    path
        Opened file, or URL.
    tif
        The same file, open (``tifffile.TiffFile``).
    """

    def __init__(self, path: PathOrUrl, tif: Any) -> None:
        self.own = RangeReader(path)
        self._tif = tif
        self._open: OrderedDict[str, RangeReader] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, page: Any) -> RangeReader:
        """Return the reader of the file that contains a page."""
        if page.parent is self._tif:
            return self.own
        name = str(page.parent.filehandle.path)
        with self._lock:
            # a reader that another thread uses is closed when that thread ends
            reader = self._open.pop(name, None) or RangeReader(Path(name))
            self._open[name] = reader
            while len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)
        return reader


@dataclass(slots=True)
class TiffDocument:
    """Open TIFF file with its series.

    Attributes
    ----------
    path
        File that the user opened: a TIFF file or a companion file.
    tif
        Open file (``tifffile.TiffFile``).
    files
        Readers of the file and of others of its set.
    series
        Images of the file, without masks.
    masks
        Pages that are masks of other pages.
    ome
        OME-XML, if it is valid.
    warnings
        Messages for the user.
    """

    path: PathOrUrl
    tif: Any
    files: FilePool
    series: list[Any]
    masks: list[Any] = field(default_factory=list)
    ome: OmeXml | None = None
    warnings: list[str] = field(default_factory=list)

    def names(self) -> tuple[str, ...]:
        """Return the names of the series."""
        return tuple(
            self._name(one) or f"image {i}" for i, one in enumerate(self.series)
        )

    def ome_image(self, series: Any) -> Any:
        """Return the ``Image`` element of a series, or None."""
        return None if self.ome is None else self.ome.image(series)

    def fingerprint(self, number: int) -> str:
        """Return a hash of the content of the files of one series."""
        digest = fingerprint_file(self.files.own.path)
        digest += f"-{number}" if number else ""
        if self.ome is not None and self.ome.missing:
            digest += f"-without-{len(self.ome.missing)}"
        return digest

    def _name(self, series: Any) -> str:
        image = self.ome_image(series)
        return str(series.name if image is None else image.get("Name") or "")


def open_document(path: PathOrUrl) -> TiffDocument:
    """Open a TIFF file, or the TIFF files of a companion file.

    Raises
    ------
    OpenError
        If tifffile cannot read the file, or if it contains no image.
    """
    import tifffile

    source, text = path, None
    if path.name.lower().endswith(tiff_ome.COMPANION):
        if not isinstance(path, Path):
            raise RefusedError(
                f"{path.name} is not read from a URL.",
                "Open one of the TIFF files that belong to it.",
            )
        source, text = tiff_ome.set_of_companion(path)
    try:
        tif = tifffile.TiffFile(for_tifffile(source))
        if text is not None or tif.is_ome:
            with tif:
                found = _open_ome(path, source, tif, text)
        else:
            found = TiffDocument(path, tif, FilePool(source, tif), list(tif.series))
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError) as error:
        raise _not_tiff(source, error) from error
    _take_masks(found)
    if not found.series:
        raise OpenError(
            f"{path.name} contains no image.",
            "The file may be incomplete: copy it again.",
        )
    return found


def split_pages(document: TiffDocument) -> None:
    """Make each page of a plain TIFF file an image with its own levels.

    tifffile stacks pages of equal size and type. The pages of a GeoTIFF are images
    with positions of their own.
    """
    import tifffile

    found: list[tuple[int, Any]] = []
    for series in document.series:
        count = len(series.pages)
        stacked = series.axes.startswith("I") and series.shape[0] == count > 1
        if not stacked or any(len(level.pages) != count for level in series.levels):
            found.append((_first_index(series), series))
            continue
        for number in range(count):
            levels = [_of_page(tifffile, x.pages[number]) for x in series.levels]
            levels[0].levels.extend(levels[1:])
            found.append((_first_index(levels[0]), levels[0]))
    found.sort(key=lambda pair: pair[0])
    document.series = [series for _, series in found]


def _of_page(tifffile: Any, page: Any) -> Any:
    """Return a series of one page."""
    return tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes)


def _first_index(series: Any) -> int:
    index = series.pages[0].index
    return int(index[0] if isinstance(index, tuple) else index)


def _open_ome(
    path: PathOrUrl, source: PathOrUrl, tif: Any, text: str | None
) -> TiffDocument:
    """Open an OME-TIFF file, as a plain TIFF file if its OME-XML is not valid.

    Parameters
    ----------
    path
        File that the user opened.
    source
        TIFF file, which differs from ``path`` if that is a companion file.
    tif
        The TIFF file, open.
    text
        OME-XML of the companion file; None for that of the TIFF file.

    Returns
    -------
    The open file.
    """
    import tifffile

    try:
        ome = tiff_ome.parse(text or str(tif.ome_metadata or ""), source, tif)
        opened = tifffile.TiffFile(for_tifffile(source), omexml=ome.text)
        series = list(opened.series)
        if not any(one.kind == "ome" for one in series):
            raise ValueError("it matches no page of the file")
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        plain = tifffile.TiffFile(for_tifffile(source), is_ome=False)
        return TiffDocument(
            path,
            plain,
            FilePool(source, plain),
            list(plain.series),
            warnings=[
                f"The OME-XML of this file cannot be used: {error}. The file was "
                "opened as a plain TIFF: its channel names, planes and pixel size by "
                "OME are left out."
            ],
        )
    found = TiffDocument(path, opened, FilePool(source, opened), series, ome=ome)
    if ome.missing and len(series) < len(ome.images):
        gone = len(ome.images) - len(series)
        found.warnings.append(
            f"{gone} of {len(ome.images)} images of the OME-XML are left out. Not in "
            f"the folder: {ome.missing_text()}."
        )
    return found


def _take_masks(document: TiffDocument) -> None:
    """Move the masks from the series of a document to its masks."""
    kept = []
    for series in document.series:
        if series.kind != "ome" and int(series.keyframe.subfiletype) & TRANSPARENCY:
            for level in series.levels:
                document.masks += [page for page in level.pages if page is not None]
        else:
            kept.append(series)
    document.series = kept or document.series


def _not_tiff(path: PathOrUrl, error: Exception) -> OpenError:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] not in (b"II", b"MM", b"EP"):
        return OpenError(
            f"{path.name} is not a TIFF file: it begins with {start!r}.",
            "Its name may be wrong, or the copy damaged: get it again.",
        )
    return OpenError(
        f"{path.name} is a damaged TIFF file: {error}.", "Copy or export it again."
    )
