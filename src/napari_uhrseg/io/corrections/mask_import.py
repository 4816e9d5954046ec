"""Import of class masks from image files: values, classes and registration."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.class_table import read_class_table
from napari_uhrseg.io.image.geometry import Affine, Georeferenced
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import BoolMask, Labels, Legend, Numbering, Roi

TILE = 2048  # px, side of a tile that is read at once
MAX_VALUES = 255  # a store has no more classes

Values = npt.NDArray[np.int64]
NUMBERINGS: tuple[Numbering, ...] = ("ids", "training")


@dataclass(frozen=True, slots=True)
class MaskClass:
    """Value of a mask, and the class that it probably represents.

    Parameters
    ----------
    value
        The number in the file. In a colour mask, red * 65536 + green * 256 + blue.
    pixels
        Number of pixels with this value.
    color
        ``#rrggbb`` in a colour mask, otherwise None.
    name
        The proposed class, from the legend or new. None: pixels of this value change
        nothing. Pixels without data never change anything.
    """

    value: int
    pixels: int
    color: str | None
    name: str | None


class TileReader(Protocol):
    """Interface of a reader of classes in tiles, such as `MaskReader`."""

    at: Roi
    side: int

    def read(self, tile: Roi, table: Mapping[int, int], /) -> tuple[BoolMask, Labels]:
        """Return the pixels of a tile that get a class, and the classes, (h, w)."""


class MaskReader:
    """Reader, in tiles, of a mask that is registered to an image.

    Attributes
    ----------
    at
        Level-0 rectangle of the image that the mask covers.
    side
        Best side of a tile, in level-0 pixels.
    class_table
        Class name of each value, from the metadata of the file; may be empty.
    """

    def __init__(self, mask: Image, shape: tuple[int, int], to_mask: Affine) -> None:
        """Use `open`.

        Parameters
        ----------
        mask
            The mask as an image.
        shape
            Height and width of the labelled image in pixels.
        to_mask
            Affine transform from the image's pixels (x, y) to the mask's.
        """
        self._mask = mask
        self._colored = mask.rgb
        self._bands = mask.rgb_bands if mask.rgb else (0,)
        self._counts: dict[int, int] | None = None
        self._to_mask = to_mask
        self.class_table: Mapping[int, str] = {}
        self.at = _covered(mask.shape, to_mask).intersect(Roi(0, 0, *shape))
        a, _, _, _, e, _ = to_mask
        self.side = TILE
        while self.side > 64 and self.side * max(abs(a), abs(e)) > TILE:
            self.side //= 2

    @classmethod
    def open(
        cls, path: Path | str, image: Georeferenced, at: Roi | None = None
    ) -> Self:
        """Open a mask file of any image format without reading it.

        Parameters
        ----------
        path
            An image with one band of integers, or an RGB image.
        image
            The labelled image, or its label store.
        at
            The level-0 rectangle that the mask covers. None: use the coordinates if
            both have some; otherwise the mask must have the image's size.

        Raises
        ------
        OpenError
            If the file cannot be opened, is not a mask, or does not fit the image.
        """
        mask = open_image(path)
        if not mask.rgb and len(mask.bands) != 1:
            raise OpenError(
                f"{mask.name} has {len(mask.bands)} bands; a mask has one, or is an "
                "RGB image.",
                "Save only the band with the classes.",
            )
        reader = cls(mask, image.shape, _image_to_mask(mask, image, at))
        reader.class_table = read_class_table(path)
        if not reader.at.area:
            raise OpenError(
                f"{mask.name} does not overlap {image.name}.",
                "Choose the mask of this image.",
            )
        return reader

    # -- values -------------------------------------------------------------------

    def scan(self) -> Iterator[float]:
        """Find the values of the mask for `classes`; yield the share read.

        Raises
        ------
        OpenError
            If there are more than 255 values, as in a photograph.
        """
        found: dict[int, int] = {}
        tiles = list(Roi(0, 0, *self._mask.shape).tiles(TILE))
        for number, tile in enumerate(tiles, 1):
            values, valid = self._values(tile)
            here, counts = np.unique(values[valid], return_counts=True)
            for value, count in zip(here.tolist(), counts.tolist(), strict=True):
                found[value] = found.get(value, 0) + count
            if len(found) > MAX_VALUES:
                raise OpenError(
                    f"{self._mask.name} has more than {MAX_VALUES} different values: "
                    "it is a picture, not a mask.",
                    "Export the mask without smoothing, and not as JPEG.",
                )
            yield number / len(tiles)
        self._counts = found

    def is_ambiguous(
        self, legend: Legend, table: Mapping[int, str] | None = None
    ) -> bool:
        """Return whether class ids and training values give other classes.

        Call `scan` first. A mask whose values have names in a table is not ambiguous,
        nor one of colours.

        Parameters
        ----------
        legend
            Classes of the label store.
        table
            Class name of each value; None: that of the file.
        """
        ids, training = (
            [c.name for c in self.classes(legend, table, numbering)]
            for numbering in NUMBERINGS
        )
        return ids != training

    def classes(
        self,
        legend: Legend,
        table: Mapping[int, str] | None = None,
        numbering: Numbering | None = None,
    ) -> tuple[MaskClass, ...]:
        """Return the proposed class of each value, for the user to correct.

        Call `scan` first. The table decides. Without one, the proposal is the class
        that has the value's colour, or the value as its id or as its training value.
        Other values are proposed as new classes. 0 and black mean unlabelled unless
        they are named.

        Parameters
        ----------
        legend
            Classes of the label store.
        table
            Class name of each value; None: that of the file.
        numbering
            Meaning of the values without a table: ``ids`` of the label store, or
            values of the ``training`` masks. None: no class is proposed for a value
            that has another class by its id than as a training value.

        Returns
        -------
        One entry for each value of the mask, in ascending order.

        Raises
        ------
        ValueError
            If the mask has not been scanned.
        """
        if self._counts is None:
            raise ValueError("the mask has not been scanned")
        gray = self._colored and all(v == (v & 255) * 0x010101 for v in self._counts)
        table = self.class_table if table is None else table
        names = _Names(legend, table, self._names_of_colors(table), numbering)
        out = []
        for value, pixels in sorted(self._counts.items()):
            color = f"#{value:06x}" if self._colored else None
            number = value & 255 if gray else value if color is None else None
            name = names.propose(color, number)
            out.append(MaskClass(value, pixels, color, name))
        return tuple(out)

    def _names_of_colors(self, table: Mapping[int, str]) -> dict[str, str]:
        """Return the names of a table by the colours of the mask's colour table.

        Raises OpenError if two classes have one colour.
        """
        found: dict[str, str] = {}
        for value, (red, green, blue, *_) in (self._mask.colormap or {}).items():
            color, name = f"#{red:02x}{green:02x}{blue:02x}", table.get(value)
            if name is not None and found.setdefault(color, name) != name:
                raise OpenError(
                    f"{self._mask.name} has one colour, {color}, for two classes: "
                    f"{found[color]!r} and {name!r}.",
                    "Give the classes other colours and export them again.",
                )
        return found

    # -- pixels -------------------------------------------------------------------

    def read(self, roi: Roi, table: Mapping[int, int]) -> tuple[BoolMask, Labels]:
        """Return the class ids of a rectangle of the image, by the nearest pixel.

        Parameters
        ----------
        roi
            Level-0 rectangle that the mask covers.
        table
            Value of the mask to class id.

        Returns
        -------
        mask
            bool of the roi's shape: pixels whose value is in the table.
        ids
            uint8 of the roi's shape: their class ids.
        """
        a, _, c, _, e, f = self._to_mask
        rows = np.floor((np.arange(roi.y, roi.bottom) + 0.5) * e + f).astype(np.int64)
        columns = np.floor((np.arange(roi.x, roi.right) + 0.5) * a + c).astype(np.int64)
        window = _bounds(rows, columns)
        values, valid = self._values(window)
        known, ids = _ids_of(values, table)
        key = np.ix_(rows - window.y, columns - window.x)
        return (valid & known)[key], ids[key]

    def _values(self, roi: Roi) -> tuple[Values, BoolMask]:
        """Return a rectangle of the mask as integers, and where it is valid."""
        pixels = self._mask.read(roi, bands=self._bands)
        data, valid = pixels.data, pixels.valid.copy()
        if data.dtype.kind == "f":
            valid &= np.isfinite(data).all(-1)
            whole = np.where(valid[..., None], data, 0)
            if (whole != np.round(whole)).any():
                raise OpenError(
                    f"{self._mask.name} has fractional values, which are not classes.",
                    "Choose a mask with one integer for each class.",
                )
            data = whole
        values = data.astype(np.int64)
        if self._colored:
            return values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2], valid
        return values[..., 0], valid


class _Names:
    """Names of colours and values, by a table or by a legend."""

    def __init__(
        self,
        legend: Legend,
        table: Mapping[int, str],
        colors: Mapping[str, str],
        numbering: Numbering | None,
    ) -> None:
        self._table = table
        self._colors = {c.color.lower(): c.name for c in legend} | dict(colors)
        ids: dict[int, str] = {c.id: c.name for c in legend}
        values = {c.source_value: c.name for c in legend if c.source_value is not None}
        training = values or ids
        self._numbers = training if numbering == "training" else ids
        self._unclear = set[int]()
        if numbering is None:
            both = ids.keys() | training.keys()
            self._unclear = {v for v in both if ids.get(v) != training.get(v)}

    def propose(self, color: str | None, number: int | None) -> str | None:
        """Return the name of a colour or a value; None for unlabelled or unclear."""
        if color is not None and color in self._colors:
            return self._colors[color]
        if number is None:
            return None if color == "#000000" else f"class {color}"
        if number in self._table:
            return self._table[number]
        if not self._table:
            if number in self._unclear:
                return None
            if number in self._numbers:
                return self._numbers[number]
        return f"class {number}" if number else None


def _image_to_mask(mask: Image, image: Georeferenced, at: Roi | None) -> Affine:
    """Return the transform from the image's pixels to the mask's.

    Raises OpenError if it cannot be determined.
    """
    height, width = mask.shape
    if at is not None:
        y, x = height / at.height, width / at.width
        return (x, 0.0, -at.x * x, 0.0, y, -at.y * y)
    if mask.affine is not None and image.affine is not None:
        return _by_coordinates(mask, image)
    if mask.shape != tuple(image.shape):
        raise OpenError(
            f"{mask.name} has {width} x {height} pixels, and {image.name} has "
            f"{image.shape[1]} x {image.shape[0]}.",
            "Choose a mask of the image's size, or one with coordinates (GeoTIFF).",
        )
    return (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _by_coordinates(mask: Image, image: Georeferenced) -> Affine:
    from rasterio.crs import CRS
    from rasterio.transform import Affine as Transform

    if mask.crs and image.crs and CRS.from_wkt(mask.crs) != CRS.from_wkt(image.crs):
        raise OpenError(
            f"{mask.name} has another coordinate system than {image.name}.",
            "Reproject it first: gdalwarp -t_srs with the image's system, and -r near.",
        )
    transform = ~Transform(*(mask.affine or ())) * Transform(*(image.affine or ()))
    a, b, c, d, e, f = tuple(transform)[:6]
    if max(abs(b), abs(d)) * max(image.shape) > 0.5:
        raise OpenError(
            f"{mask.name} is rotated against {image.name}.",
            "Warp it onto the image's grid first: gdalwarp with -r near.",
        )
    return (a, 0.0, c, 0.0, e, f)


def _covered(shape: tuple[int, int], to_mask: Affine) -> Roi:
    """Return the pixels of the image that the mask covers, also beyond the image."""
    a, _, c, _, e, f = to_mask
    height, width = shape
    ys, xs = sorted((-f / e, (height - f) / e)), sorted((-c / a, (width - c) / a))
    y, x = (int(np.floor(v[0] + 1e-6)) for v in (ys, xs))
    bottom, right = (int(np.ceil(v[1] - 1e-6)) for v in (ys, xs))
    return Roi(y, x, max(0, bottom - y), max(0, right - x))


def _bounds(rows: np.ndarray, columns: np.ndarray) -> Roi:
    y, x = int(rows.min()), int(columns.min())
    return Roi(y, x, int(rows.max()) + 1 - y, int(columns.max()) + 1 - x)


def _ids_of(values: np.ndarray, table: Mapping[int, int]) -> tuple[BoolMask, Labels]:
    """Return which values are in the table, and the class id of each."""
    keys = np.array(sorted(table), np.int64)
    if not len(keys):
        return np.zeros(values.shape, bool), np.zeros(values.shape, np.uint8)
    index = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    ids = np.array([table[int(k)] for k in keys], np.uint8)
    return keys[index] == values, ids[index]
