"""Reader of slide formats by OpenSlide (extra ``slides``).

It opens MRXS, SCN, BIF, VMS, DICOM and others.
"""

import itertools
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Band, Image
from napari_uhrseg.io.image.level_source import Array, Slices
from napari_uhrseg.io.readers.common import fingerprint_file
from napari_uhrseg.io.readers.registry import DIRECTORY, register_reader
from napari_uhrseg.types import Limits

SLIDE_SUFFIXES = (".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".dcm")
TIFF_SUFFIXES = (".svs", ".ndpi", ".tif", ".tiff")  # formats that tifffile opens first
CHUNK_SIDE = 512  # px, approximate side of a chunk
MAX_TILE_PIXELS = 2**26  # OpenSlide ends the process if it cannot allocate a tile
MAX_FILES_SEARCHED = 100  # files of a folder that are checked for DICOM
WHITE = (255, 255, 255)
GENERIC = "generic-tiff"


def _priority(path: Path) -> float:
    if path.is_dir():
        return 5.0 if _dicom_in(path) else 0.0
    return 5.0 if path.suffix.lower() in SLIDE_SUFFIXES else 0.5


@register_reader(
    *SLIDE_SUFFIXES, *TIFF_SUFFIXES, DIRECTORY, title="a slide", priority=_priority
)
def open_slide(
    path: Path,
    series: int | None,
    limits: Limits = Limits(),
) -> Image:
    """Open the slide in a file or in a folder of DICOM files.

    Parameters
    ----------
    path
        File or folder.
    series
        0 or None, since a slide is one image.
    limits
        Ignored.

    Raises
    ------
    OpenError
        If OpenSlide is not installed or cannot open the slide, if a tile has more than
        2**26 pixels, or if ``series`` is not 0.
    """
    if series:
        raise OpenError(
            f"{path.name} has no image number {series}: a slide is one image.",
            "Leave the number out.",
        )
    openslide = _library(path)
    file = _dicom_in(path) if path.is_dir() else path
    if file is None:
        raise OpenError(f"{path.name} holds no DICOM files.", "Choose another folder.")
    try:
        handle = SlideHandle(openslide, file)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise OpenError(
            f"{path.name} is of no format that OpenSlide knows.",
            "Slides of several files need all of them beside each other; "
            "convert others to a pyramidal TIFF.",
        ) from error
    except openslide.OpenSlideError as error:
        raise OpenError(
            f"{path.name} cannot be opened by OpenSlide: {error}.",
            "The file may be damaged or incomplete: copy it again.",
        ) from error
    _check_tiles(path, handle.slide.properties)
    return _image(path, file, handle)


def _check_tiles(path: Path, about: Any) -> None:
    for name, height in about.items():
        if name.endswith(".tile-height"):
            width = about[name.replace("height", "width")]
            if int(height) * int(width) > MAX_TILE_PIXELS:
                raise OpenError(
                    f"{path.name} says that it has tiles of {width} x {height} pixels.",
                    "The file may be damaged or incomplete: copy it again.",
                )


def _image(path: Path, file: Path, handle: "SlideHandle") -> Image:
    """Return the image of an open slide, whose file may be in the folder ``path``."""
    about = handle.slide.properties
    size, warnings = pixel_size(about)
    return Image(
        name=path.stem,
        sources=[
            SlideLevel(handle, level) for level in range(handle.slide.level_count)
        ],
        source_axes="yxs",
        path=path,
        fingerprint=about.get("openslide.quickhash-1") or fingerprint_file(file),
        bands=tuple(Band(name, (0.0, 255.0)) for name in ("red", "green", "blue")),
        rgb_bands=(0, 1, 2),
        is_slide=about.get("openslide.vendor") != GENERIC,
        pixel_size=size,
        unit="pixel" if size is None else "micrometer",
        warnings=warnings,
    )


class SlideHandle:
    """Open slide that several threads share and that is reopened after an error.

    OpenSlide supports reading from several threads. After one tile that it cannot
    decode, an OpenSlide object refuses each further read.
    """

    def __init__(self, openslide: ModuleType, path: Path) -> None:
        self._openslide = openslide
        self._path = path
        self._lock = threading.Lock()
        self.slide = openslide.OpenSlide(path)
        self.background = _background(self.slide.properties)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        """Read a rectangle of a level as RGB.

        Parameters
        ----------
        level
            Index of the level; 0 is the finest.
        x, y
            Left and top of the rectangle, in level-0 pixels.
        width, height
            Size of the rectangle, in pixels of the level.

        Returns
        -------
        Array (height, width, 3) of uint8.

        Raises
        ------
        openslide.OpenSlideError
            If the rectangle cannot be decoded.
        """
        slide = self.slide
        try:
            region = slide.read_region((x, y), level, (width, height))
        except self._openslide.OpenSlideError:
            with self._lock:
                if self.slide is slide:
                    self.slide = self._openslide.OpenSlide(self._path)
            raise
        return on_background(np.asarray(region), self.background)


class SlideLevel:
    """Source of one level of a slide, with axes y, x, samples."""

    def __init__(self, handle: SlideHandle, level: int) -> None:
        slide = handle.slide
        width, height = slide.level_dimensions[level]
        self._handle, self._level = handle, level
        self._downsample = float(slide.level_downsamples[level])
        self.shape = (int(height), int(width), 3)
        self.dtype = np.dtype(np.uint8)
        key = f"openslide.level[{level}].tile-"
        tile = [slide.properties.get(key + side) for side in ("height", "width")]
        self.chunks = (_near_chunk(tile[0]), _near_chunk(tile[1]), 3)

    def __getitem__(self, key: Slices) -> Array:
        rows, columns, samples = key
        found = self._handle.read(
            self._level,
            round(columns.start * self._downsample),
            round(rows.start * self._downsample),
            columns.stop - columns.start,
            rows.stop - rows.start,
        )
        return found[..., samples]


def _near_chunk(tile: str | None) -> int:
    """Return the multiple of a tile's side that is nearest to 512."""
    side = int(tile) if tile else CHUNK_SIDE
    return side * max(1, round(CHUNK_SIDE / side))


def on_background(rgba: Array, background: tuple[int, int, int]) -> Array:
    """Blend RGBA pixels with a background colour."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    under = np.array(background, np.uint32) * (255 - alpha.astype(np.uint32))
    mixed = rgba[..., :3].astype(np.uint32) * alpha + under
    return ((mixed + 127) // 255).astype(np.uint8)


def _background(about: Any) -> tuple[int, int, int]:
    text = about.get("openslide.background-color") or ""
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:
        return WHITE
    return red, green, blue


def pixel_size(about: Any) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the (height, width) of a pixel in µm, or None and a warning."""
    try:
        y, x = (float(about[f"openslide.mpp-{axis}"]) for axis in "yx")
    except (KeyError, ValueError):
        return None, ("The slide does not say how large its pixels are.",)
    if not (0 < y < 1e6 and 0 < x < 1e6):
        return None, (f"The slide's pixel size ({y}, {x}) µm makes no sense.",)
    return (y, x), ()


def _dicom_in(folder: Path) -> Path | None:
    """Return a DICOM file of a folder, found by its suffix or its first bytes."""
    files = sorted(itertools.islice(folder.iterdir(), MAX_FILES_SEARCHED))
    named = [f for f in files if f.suffix.lower() == ".dcm" and f.is_file()]
    bare = (f for f in files if not f.suffix and f.is_file() and _is_dicom(f))
    return named[0] if named else next(bare, None)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _library(path: Path) -> ModuleType:
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the C library is missing
        raise OpenError(
            f"{path.name} needs OpenSlide, which is not installed.",
            'Install it with: pip install "napari-uhrseg[slides]"',
        ) from error
    module: ModuleType = openslide
    return module
