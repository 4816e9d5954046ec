"""Where files are: paths of this machine, and URLs that can be used like paths.

A URL (``s3://bucket/scene.zarr``, ``https://…``) goes through fsspec, and finds its
server and its credentials where fsspec and its packages look for them.
"""

import re
import shutil
from pathlib import Path
from typing import TypeVar

from fsspec import get_filesystem_class
from upath import UPath

from napari_uhrseg.errors import OpenError, StoreError

Address = Path | UPath
A = TypeVar("A", bound=Address)
ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")  # say what a folder is


def to_path(name: str | Address) -> Address:
    """A path, or of a URL what has the methods of one; ``file://`` is a path.

    Raises OpenError where nothing here knows that kind of URL.
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
        # others write there too, so what was listed is no longer true
        return UPath(name, use_listings_cache=False)
    except ImportError as error:
        s3 = protocol in ("s3", "s3a")
        extra = "napari-uhrseg[s3]" if s3 else f"fsspec[{protocol}]"
        raise OpenError(
            f"{name} cannot be reached: {str(error).rstrip('.')}.",
            f'Install what it needs: pip install "{extra}".',
        ) from error
    except ValueError as error:
        raise OpenError(
            f"{name} cannot be reached: {error}.",
            "Give a path, or a URL that fsspec knows, such as s3:// or https://.",
        ) from error


def is_url(where: Address) -> bool:
    """Whether it lies in an object store or on a server: no locks, no renaming."""
    return not isinstance(where, Path)


def exists(where: Address) -> bool:
    """Whether there is something. Raises StoreError where a URL cannot be asked."""
    try:
        return where.exists()
    except io_errors(where) as error:
        raise StoreError(
            f"{where} cannot be reached: {error_text(error)}.",
            "Check the address, the network, and the credentials that fsspec uses.",
        ) from error


def remove_folder(folder: Address) -> None:
    """Remove a folder and all in it. Raises what `io_errors` says."""
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.rmdir(recursive=True)


def for_zarr(where: Address) -> Path | str:
    """What zarr opens it by."""
    return where if isinstance(where, Path) else str(where)


def io_errors(where: Address, *others: type[Exception]) -> tuple[type[Exception], ...]:
    """What reading and writing there may raise: of URLs whatever their packages do."""
    return (Exception,) if is_url(where) else (OSError, *others)


def error_text(error: Exception) -> str:
    """What an error of the system or of a server says."""
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def parent_or_home(where: Address | None) -> Path:
    """Return the folder of a local file; the home folder for a URL or None."""
    return where.parent if isinstance(where, Path) else Path.home()


def unused_path(path: A) -> A:
    """Return the path with the lowest number appended that does not exist yet."""
    stem = re.sub(r"_\d+$", "", path.stem)
    number = 2
    while exists(path.with_name(f"{stem}_{number}{path.suffix}")):
        number += 1
    return path.with_name(f"{stem}_{number}{path.suffix}")  # type: ignore[return-value]  # of the same kind
