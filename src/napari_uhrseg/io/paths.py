"""Local paths and URLs.

A URL (``s3://bucket/scene.zarr``, ``https://…``) is accessed through fsspec, which
finds the server and the credentials by its own configuration.
"""

import re
import shutil
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from fsspec import get_filesystem_class
from upath import UPath

from napari_uhrseg.errors import OpenError, StoreError

PathOrUrl = Path | UPath
A = TypeVar("A", bound=PathOrUrl)
ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")  # files of a Zarr node


def to_path(name: str | PathOrUrl) -> PathOrUrl:
    """Return a local path, or a `UPath` for a URL. ``file://`` becomes a path.

    Raises
    ------
    OpenError
        If no installed package supports that kind of URL.
    """
    if isinstance(name, Path):
        return name.expanduser()
    if isinstance(name, UPath):
        return name
    protocol, found, rest = name.partition("://")
    if not found:
        return Path(name).expanduser()
    if protocol in ("file", "local"):
        return Path(rest)
    try:
        get_filesystem_class(protocol)
        name = _with_number_signs(name)
        # other processes write there too, so a cached listing may be outdated
        return UPath(name, use_listings_cache=False)
    except ImportError as error:
        s3 = protocol in ("s3", "s3a")
        extra = "napari-uhrseg[s3]" if s3 else f"fsspec[{protocol}]"
        raise OpenError(
            f"{name} cannot be reached: {str(error).rstrip('.')}.",
            f'Install the missing package: pip install "{extra}".',
        ) from error
    except ValueError as error:
        raise OpenError(
            f"{name} cannot be reached: {error}.",
            "Give a path, or a URL that fsspec supports, such as s3:// or https://.",
        ) from error


def _with_number_signs(url: str) -> str:
    """Return the URL of a web server in which ``#`` is a part of names.

    Files have no fragments, to which ``#`` refers in web pages.
    """
    head, chain, last = url.rpartition("::")
    if last.startswith(("http://", "https://")):
        last = last.replace("#", "%23")
    return head + chain + last


def is_url(where: PathOrUrl) -> bool:
    """Return True for an object store or a web server, which cannot lock or rename."""
    return not isinstance(where, Path)


def on_another_server(where: PathOrUrl, base: PathOrUrl) -> bool:
    """Return True for a URL on another server or bucket than that of ``base``."""
    text = str(where).rpartition("::")[2]  # of a chain, such as zip://a::https://b
    if not is_url(where) or "://" not in text:
        return False
    first, second = urlsplit(text), urlsplit(str(base))
    same = (first.scheme, first.netloc) == (second.scheme, second.netloc)
    return not is_url(base) or not same


def exists(where: PathOrUrl) -> bool:
    """Return True if there is a file or folder at the path.

    Raises
    ------
    StoreError
        If the server of a URL cannot be reached.
    """
    try:
        return where.exists()
    except io_errors(where) as error:
        raise StoreError(
            f"{where} cannot be reached: {error_text(error)}.",
            "Check the address, the network, and the credentials that fsspec uses.",
        ) from error


def remove_folder(folder: PathOrUrl) -> None:
    """Remove a folder with its contents. Raises one of `io_errors`."""
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.rmdir(recursive=True)


def for_zarr(where: PathOrUrl) -> Path | str:
    """Return the path in the form that zarr opens."""
    return where if isinstance(where, Path) else str(where)


def io_errors(
    where: PathOrUrl, *others: type[Exception]
) -> tuple[type[Exception], ...]:
    """Return the exception types that reading and writing at a path may raise.

    For a path these are OSError and ``others``. For a URL it is Exception, because
    the packages for URLs raise exceptions of their own.
    """
    return (Exception,) if is_url(where) else (OSError, *others)


def error_text(error: Exception) -> str:
    """Return the message of an error of the operating system or of a server."""
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def parent_or_home(where: PathOrUrl | None) -> Path:
    """Return the folder of a local file; the home folder for a URL or None."""
    return where.parent if isinstance(where, Path) else Path.home()


def unused_path(path: A) -> A:
    """Return the path with the lowest number appended that does not exist yet."""
    stem = re.sub(r"_\d+$", "", path.stem)
    number = 2
    while exists(path.with_name(f"{stem}_{number}{path.suffix}")):
        number += 1
    return path.with_name(f"{stem}_{number}{path.suffix}")  # type: ignore[return-value]  # of the same kind


def write_error(problem: str, error: Exception) -> StoreError:
    """Return the error for a failed write during a run.

    ``problem`` is a clause without a full stop, such as "labels.zarr cannot be
    written".
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = "The folder was moved, renamed or deleted: put it back"
    elif isinstance(error, PermissionError):
        hint = "Ask for write permission"
    else:
        hint = "Free some space or check the disk"
    return StoreError(
        f"{problem}: {error_text(error)}.",
        f"{hint}, then segment again. Finished blocks are kept.",
    )
