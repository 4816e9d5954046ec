"""Choice of the reader of a file, by its name and its first bytes."""

import os
from pathlib import Path

from napari_uhrseg.errors import OpenError, UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl, error_text, is_url
from napari_uhrseg.io.readers.archive import ARCHIVES, DOWNLOAD, folder_in_archive
from napari_uhrseg.io.readers.beside import unused_files
from napari_uhrseg.io.readers.common import NO_RANGES, RASTER, is_zarr, probe
from napari_uhrseg.io.readers.registry import (
    DIRECTORY,
    Reader,
    RefusedError,
    readers,
    suffixes,
)
from napari_uhrseg.io.readers.unsupported import conversion_of
from napari_uhrseg.types import Limits

MAGIC = {
    b"II*\0": ".tif", b"MM\0*": ".tif", b"II+\0": ".tif", b"MM\0+": ".tif",
    b"\x89PNG\r\n": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif",
    b"\0\0\0\x0cjP  ": ".jp2", b"\xffO\xffQ": ".j2k",
}  # fmt: skip
"""First bytes of formats, and a suffix of each."""


def read_any(path: PathOrUrl, series: int | None, limits: Limits = Limits()) -> Image:
    """Open an image with the first reader that can open and decode it.

    If that is not the reader with the highest priority, the image has a warning with
    the error of that reader.

    Parameters
    ----------
    path
        File, folder or URL.
    series
        Index of the image in a file with several images; None for the largest.
    limits
        Bounds of the reader.

    Returns
    -------
    The image, of which one tile is decoded.

    Raises
    ------
    OpenError
        If no reader can open the file, or if a reader refuses it. The message is that
        of the reader with the highest priority.
    """
    if isinstance(path, Path):
        _check_path(path)
    if path.name.lower().partition("?")[0].endswith(ARCHIVES):
        _is_directory(path)  # raises OpenError for a URL that does not exist
        path = folder_in_archive(path)
    errors: list[UhrSegError] = []
    candidates = _candidates(path)
    for candidate in candidates:
        try:
            image = candidate.open(path, series, limits)
            _check_dtype(image)
            probe(image)
        except RefusedError:
            raise
        except UhrSegError as error:
            errors.append(error)
        # libraries raise arbitrary errors; the user sees a single kind
        except Exception as error:  # noqa: BLE001
            errors.append(_library_error(path, candidate.title, error))
        else:
            if errors:
                first = _sentence(errors[0].message)
                image.warnings = (
                    f"This file was opened as {candidate.title}, because as "
                    f"{candidates[0].title} it cannot be opened: {first} Further "
                    "images, planes, channel names, coordinates and the pixel size may "
                    "be missing.",
                    *image.warnings,
                )
            if candidate.title != RASTER:
                image.warnings += unused_files(path)
            return image
    raise _first_error(path, errors)


def _library_error(path: PathOrUrl, title: str, error: Exception) -> OpenError:
    """Return the error for an exception that a library raised."""
    if is_url(path) and "range requests" in str(error):  # the message of fsspec
        return OpenError(f"{path.name} cannot be opened: {NO_RANGES}.", DOWNLOAD)
    return OpenError(
        f"{path.name} cannot be opened as {title}: {error}",
        "The file may be damaged or incomplete: copy or export it again.",
    )


def _check_dtype(image: Image) -> None:
    if image.dtype.kind not in "buif":
        raise OpenError(
            f"{image.name} has pixels of type {image.dtype}, which cannot be shown.",
            "Convert it to whole or real numbers.",
        )


def _check_path(path: Path) -> None:
    """Raise OpenError if a path is missing, empty or not readable."""
    try:
        if not path.exists():
            raise OpenError(f"{path} does not exist.", "Check the name and the folder.")
        readable = os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))
        empty = path.is_file() and path.stat().st_size == 0
    except PermissionError as error:
        raise _not_readable(path) from error
    if not readable:
        raise _not_readable(path)
    if empty:
        raise OpenError(
            f"{path.name} is empty (0 bytes).", "Copy or download it again."
        )


def _not_readable(path: Path) -> OpenError:
    return OpenError(
        f"You may not read {path}.", "Ask its owner for the right to, or copy it."
    )


def _candidates(path: PathOrUrl) -> list[Reader]:
    """Return the readers of a path by priority. Raises OpenError if there is none."""
    is_dir, url = _is_directory(path), is_url(path)
    name = path.name.lower()
    if url and not _readers_of(name, is_dir):
        name = name.partition("?")[0]
    found = _readers_of(name, is_dir) or _readers_by_content(path, name, is_dir)
    usable = [r for r in found if r.urls or not url]
    rated = sorted(((r.priority(path), r) for r in usable), key=lambda pair: -pair[0])
    chosen = [r for value, r in rated if value > 0]
    if not found or (is_dir and not chosen):
        raise _no_format(path, name, is_dir)
    if url and not chosen:
        raise OpenError(
            f"{path.name} cannot be opened by its URL: only OME-Zarr and TIFF can.",
            "Copy the file to this machine, or mount its file system.",
        )
    return chosen


def _readers_of(name: str, is_dir: bool) -> list[Reader]:
    """Return the readers of a lower-case name, or of folders."""
    return [r for r in readers() if _matches(r, name, is_dir)]


def _readers_by_content(path: PathOrUrl, name: str, is_dir: bool) -> list[Reader]:
    """Return the readers of a file without a suffix by its first bytes.

    Raises OpenError if the file has a suffix, and the bytes are of a known format.
    """
    suffix = "" if is_dir else _suffix_by_content(path)
    if not suffix:
        return []
    if path.suffix:
        raise OpenError(
            f"{path.name} is of no known format, but begins like a {suffix} file.",
            f"If it is one, rename it to {path.stem}{suffix}.",
        )
    return _readers_of(name + suffix, is_dir)


def _no_format(path: PathOrUrl, name: str, is_dir: bool) -> OpenError:
    """Return the error for a file or folder that no reader opens."""
    if is_dir:
        return OpenError(
            f"{path.name} is a folder without an image: neither OME-Zarr nor DICOM.",
            "Choose a file in it, or the folder of an OME-Zarr image.",
        )
    conversion = conversion_of(name)
    if conversion is not None:
        title, hint = conversion
        return OpenError(f"{path.name} is of the format {title}, not supported.", hint)
    known = ", ".join(suffixes())
    return OpenError(
        f"{path.name} is of no known format.",
        f"Supported formats: {known}, and OME-Zarr folders.",
    )


def _suffix_by_content(path: PathOrUrl) -> str:
    """Return the suffix of the format that the first bytes name; empty if unknown."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    # the packages that read URLs raise arbitrary errors
    except Exception:  # noqa: BLE001
        return ""
    return next((s for magic, s in MAGIC.items() if start.startswith(magic)), "")


def _matches(entry: Reader, name: str, is_dir: bool) -> bool:
    """Return whether a reader opens a lower-case name, or folders."""
    if is_dir and DIRECTORY in entry.suffixes:
        return True
    return any(s != DIRECTORY and name.endswith(s) for s in entry.suffixes)


def _is_directory(path: PathOrUrl) -> bool:
    """Return whether the path is a folder. Raises OpenError for unreachable URLs."""
    url = is_url(path)
    try:
        is_dir = is_zarr(path) if url else path.is_dir()
        exists = not url or is_dir or path.exists()
    # the packages that read URLs raise arbitrary errors
    except Exception as error:
        raise OpenError(
            f"{path} cannot be reached: {error_text(error)}.",
            "Check the address, the network, and the credentials that fsspec uses.",
        ) from error
    if not exists:
        raise OpenError(
            f"{path} does not exist, or may not be read.",
            "Check the address, and the credentials that fsspec uses.",
        )
    return is_dir


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _first_error(path: PathOrUrl, errors: list[UhrSegError]) -> OpenError:
    """Return the error of the reader with the highest priority."""
    if not errors:
        return OpenError(
            f"{path.name} cannot be opened.", "The file format is not supported."
        )
    first = errors[0]
    return OpenError(
        first.message
        if path.name in first.message
        else f"{path.name}: {first.message}",
        first.hint,
    )
