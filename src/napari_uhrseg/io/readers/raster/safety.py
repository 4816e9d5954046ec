"""Checks of raster files before GDAL opens them.

GDAL opens whatever a file names: sources of a VRT, overviews and masks. Any of them may
be an address or a description of a web service. A file that someone received must
neither cause requests nor show files from outside its folder.
"""

import os
import re
from pathlib import Path
from typing import Any

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.readers.raster.vrt_sources import VrtSource, vrt_sources
from napari_uhrseg.io.readers.registry import RefusedError

MAX_NAMED = 3  # missing files that a message names
_MAGIC = (
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),
    (b"MM\0+", "GTiff"),
    (b"\0\0\0\x0cjP  ", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"EHFA_HEADER_TAG\0", "HFA"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
)
_COMPANIONS = (".ovr", ".msk")


def checked_driver(path: Path) -> str:
    """Return the GDAL driver of a file after a check of all files that GDAL opens.

    These are the sources of a VRT (also of VRTs in it), overviews and masks. They must
    lie in the folder of the file or below, and be rasters of a known format.

    Raises
    ------
    OpenError
        If a file is missing, outside the folder, or not a known raster.
    """
    return _Checker(path).check(path)


class _Checker:
    """Recursive check of the files that belong to one raster."""

    def __init__(self, path: Path) -> None:
        self._top = path
        self._roots = {path.resolve().parent, path.parent.resolve()}
        self._seen: set[Path] = set()
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def check(self, path: Path) -> str:
        driver = self._driver(path)
        if path in self._seen:
            return driver
        self._seen.add(path)
        if driver == "VRT":
            self._check_sources(path)
        for name in (path.name + suffix for suffix in _COMPANIONS):
            for companion in self._beside(path, name):
                self.check(self._inside(companion))
        for name in (f"{path.stem}.aux", f"{path.name}.aux"):
            for companion in self._beside(path, name):
                if _start(companion).startswith(b"EHFA"):  # others are of LaTeX
                    self.check(self._inside(companion))
        named = _named_overviews(path, driver)
        if named:
            self.check(self._named(path, named))
        return driver

    def _driver(self, path: Path) -> str:
        """Return the driver of a file by its first bytes."""
        start = _start(path)
        for magic, driver in _MAGIC:
            # GDAL looks for XML and JSON up to the first zero byte
            if start.startswith(magic) and not re.search(rb"[<{]", _text(start)):
                return driver
        if re.match(
            rb"\s*(<\?xml[^>]*\?>)?\s*(<!--.*?-->\s*)*<VRTDataset", start, re.S
        ):
            return "VRT"
        if path == self._top and path.suffix.lower() == ".img" and self._has_envi(path):
            return "ENVI"
        convert = "Convert it: gdal_translate -co TILED=YES INPUT OUTPUT.tif"
        if path == self._top:
            raise OpenError(
                f"{path.name} is not a raster of a known format: it begins with "
                f"{start[:12]!r}.",
                f"Descriptions of web services are not opened. {convert}",
            )
        raise RefusedError(
            f"{path}, which GDAL would open with {self._top.name}, is not a raster of "
            f"a known format: it begins with {start[:12]!r}.",
            f"Remove it, or if you trust it: {convert}",
        )

    def _has_envi(self, path: Path) -> bool:
        names = (path.with_suffix(".hdr").name, path.name + ".hdr")
        found = (file for name in names for file in self._beside(path, name))
        return any(_start(file).startswith(b"ENVI") for file in found)

    def _check_sources(self, path: Path) -> None:
        sources = dict.fromkeys(vrt_sources(path))
        missing: list[str] = []
        for source in sources:
            found = self._source(path, source)
            if not found.is_file():
                missing.append(source.name)
            elif not source.raw:
                self.check(self._inside(found))
            else:
                self._inside(found)
        if missing:
            names = ", ".join(missing[:MAX_NAMED])
            more = len(missing) - MAX_NAMED
            raise OpenError(
                f"{path.name} needs files that are missing: {names}"
                + (f" and {more} more." if more > 0 else "."),
                "Copy them to their places, or build the VRT again with gdalbuildvrt.",
            )

    def _source(self, path: Path, source: VrtSource) -> Path:
        """Return the file of a reference, as GDAL resolves it."""
        name = source.name
        plain = re.sub(r"^[A-Za-z]:[\\/]", "", name) if os.name == "nt" else name
        if not name or re.search(r"[:<{?*\n]", plain):
            raise self._outside(path, name)
        # GDAL resolves links to a VRT
        folder = path.resolve().parent if source.relative else Path.cwd()
        return self._inside(folder / name)

    def _named(self, path: Path, name: str) -> Path:
        """Return the overview file that the metadata of a raster name."""
        base, found, rest = name.partition(":::BASE:::")
        if found and not base:
            return self._inside(self._source(path, VrtSource(rest, True, False)))
        return self._source(path, VrtSource(name, False, False))

    def _inside(self, file: Path) -> Path:
        """Return the file. Raises OpenError if it is outside the folder tree."""
        real = file.resolve()
        if not any(root in real.parents for root in self._roots):
            raise self._outside(self._top, str(file))
        return file

    def _outside(self, path: Path, name: str) -> RefusedError:
        return RefusedError(
            f"{path.name} names {name or 'a file without a name'}, which is not a file "
            f"in the folder of {self._top.name}.",
            "Nothing outside that folder is opened. If you trust the file, put it into "
            "a folder above its sources, or convert it: gdal_translate -co TILED=YES "
            f"{self._top.name} {self._top.stem}.tif",
        )

    def _beside(self, path: Path, name: str) -> list[Path]:
        """Return the files beside a file with a name in upper or lower case."""
        folder = path.parent
        if folder not in self._listings:
            names: dict[str, list[str]] = {}
            for found in os.listdir(folder):
                names.setdefault(found.lower(), []).append(found)
            self._listings[folder] = names
        return [folder / n for n in self._listings[folder].get(name.lower(), ())]


def _named_overviews(path: Path, driver: str) -> str:
    """Return the overview file that a raster names in its metadata; or empty."""
    import rasterio

    from napari_uhrseg.io.readers.raster.levels import quiet

    with quiet(), rasterio.open(path, driver=driver, sharing=False) as dataset:
        tags: dict[str, Any] = dataset.tags(ns="OVERVIEWS")
    return str(tags.get("OVERVIEW_FILE", ""))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _text(start: bytes) -> bytes:
    return start.split(b"\0", 1)[0]
