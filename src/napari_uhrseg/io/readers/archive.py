"""OME-Zarr in zip files."""

import zipfile
from pathlib import Path

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.paths import PathOrUrl, error_text, io_errors, is_url, to_path

ARCHIVES = (".zarr.zip", ".ozx")
DOWNLOAD = (
    "Download the file, or use a server that supports range requests (HTTP status 206)."
)


def folder_in_archive(path: PathOrUrl) -> PathOrUrl:
    """Return the address of the OME-Zarr folder in a zip file.

    The folder is the root of the archive, or the only folder in it.

    Raises
    ------
    OpenError
        If the file is not a zip file.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except io_errors(path, zipfile.BadZipFile, NotImplementedError) as error:
        raise OpenError(
            f"{path.name} is not a zip file that can be read: {error_text(error)}.",
            DOWNLOAD if is_url(path) else "Copy it again.",
        ) from error
    tops = {name.partition("/")[0] for name in names}
    alone = len(tops) == 1 and all("/" in name for name in names)
    whole = path.absolute() if isinstance(path, Path) else path
    return to_path(f"zip://{tops.pop() if alone else ''}::{whole}")
