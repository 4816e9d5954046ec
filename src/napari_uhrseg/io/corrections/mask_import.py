"""A mask from a file: its values, the classes they may be, and where it lies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.geometry import Affine, Georeferenced
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Labels, Legend, Mask, Roi

SIDE = 2048  # pixels a side of what is read at once
MOST = 255  # values: there are no more classes

Values = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MaskClass:
    """A value of a mask, and the class it is taken for.

    Parameters
    ----------
    value
        The number in the file; of a colour mask, red * 65536 + green * 256 + blue.
    pixels
        How many of the mask have it.
    color
        Of a colour mask, #rrggbb.
    name
        The class proposed: one of the legend, or a new one. ``None``: pixels of this
        value change nothing, as nodata never does.
    """

    value: int
    pixels: int
    color: str | None
    name: str | None


class MaskReader:
    """A mask placed on an image, read by parts; memory does not grow with it.

    Attributes
    ----------
    at
        Level-0 rectangle of the image that the mask covers.
    side
        Of the parts it is best read in, level-0 pixels.
    """

    def __init__(self, mask: Image, shape: tuple[int, int], to_mask: Affine) -> None:
        """Use `open`. ``to_mask``: from the image's pixels (x, y) to the mask's."""
        self._mask = mask
        self._colored = mask.rgb
        self._bands = mask.rgb_bands if mask.rgb else (0,)
        self._counts: dict[int, int] | None = None
        self._to_mask = to_mask
        a, _, c, _, e, f = to_mask
        height, width = mask.shape
        ys, xs = sorted((-f / e, (height - f) / e)), sorted((-c / a, (width - c) / a))
        y, x = (int(np.floor(v[0] + 1e-6)) for v in (ys, xs))
        bottom, right = (int(np.ceil(v[1] - 1e-6)) for v in (ys, xs))
        covered = Roi(y, x, max(0, bottom - y), max(0, right - x))
        self.at = covered.intersect(Roi(0, 0, *shape))
        self.side = SIDE
        while self.side > 64 and self.side * max(abs(a), abs(e)) > SIDE:
            self.side //= 2

    @classmethod
    def open(
        cls, path: Path | str, image: Georeferenced, at: Roi | None = None
    ) -> Self:
        """A mask file of any image format, without reading it.

        Parameters
        ----------
        path
            Of one band of whole numbers, or a colour picture.
        image
            What it is a mask of: an image, or a label store.
        at
            The level-0 rectangle it covers. ``None``: where its coordinates say, if
            both have some; else it must have the image's size.

        Raises
        ------
        OpenError
            It cannot be opened, is no mask, or does not fit the image.
        """
        mask = open_image(path)
        if not mask.rgb and len(mask.bands) != 1:
            raise OpenError(
                f"{mask.name} has {len(mask.bands)} bands; a mask has one, or is a "
                "colour picture.",
                "Save the band that holds the classes alone.",
            )
        reader = cls(mask, image.shape, _placed(mask, image, at))
        if not reader.at.area:
            raise OpenError(
                f"{mask.name} lies beside {image.name}: they share no ground.",
                "Choose the mask of this image.",
            )
        return reader

    # -- what its values mean -----------------------------------------------------

    def scan(self) -> Iterator[float]:
        """Find the values there are, for `classes`; yields the share read.

        Raises OpenError where there are more than 255, as in a photograph.
        """
        found: dict[int, int] = {}
        tiles = list(Roi(0, 0, *self._mask.shape).tiles(SIDE))
        for number, tile in enumerate(tiles, 1):
            values, valid = self._values(tile)
            here, counts = np.unique(values[valid], return_counts=True)
            for value, count in zip(here.tolist(), counts.tolist(), strict=True):
                found[value] = found.get(value, 0) + count
            if len(found) > MOST:
                raise OpenError(
                    f"{self._mask.name} has more than {MOST} different values: that "
                    "is a picture, not a mask.",
                    "Export the mask without smoothing, and not as JPEG.",
                )
            yield number / len(tiles)
        self._counts = found

    def classes(self, legend: Legend) -> tuple[MaskClass, ...]:
        """What each value may mean, after `scan`; for the person to mend.

        The class that was trained from this value, has it as its id, or has its
        colour; else a new one. 0, and black, are taken for "not labelled".
        """
        if self._counts is None:
            raise ValueError("the mask was not read yet")
        gray = self._colored and all(v == (v & 255) * 0x010101 for v in self._counts)
        by_source = {c.source_value: c.name for c in legend}
        by_id = {} if set(by_source) - {None} else {c.id: c.name for c in legend}
        by_color = {c.color.lower(): c.name for c in legend}
        out = []
        for value, pixels in sorted(self._counts.items()):
            color = f"#{value:06x}" if self._colored else None
            number = value & 255 if gray else value
            name = None if color is None else by_color.get(color)
            if name is None and (color is None or gray):
                name = by_source.get(number) or by_id.get(number)
            if name is None and number:
                name = f"class {number}" if color is None or gray else f"class {color}"
            out.append(MaskClass(value, pixels, color, name))
        return tuple(out)

    # -- pixels -------------------------------------------------------------------

    def read(self, roi: Roi, table: Mapping[int, int]) -> tuple[Mask, Labels]:
        """What a rectangle of the image becomes, by the nearest pixel of the mask.

        ``table`` is value to class id. Returns the pixels it has a class for, bool,
        and their ids, uint8, both of the roi's shape.
        """
        a, _, c, _, e, f = self._to_mask
        rows = np.floor((np.arange(roi.y, roi.bottom) + 0.5) * e + f).astype(np.int64)
        columns = np.floor((np.arange(roi.x, roi.right) + 0.5) * a + c).astype(np.int64)
        y, x = int(rows.min()), int(columns.min())
        window = Roi(y, x, int(rows.max()) + 1 - y, int(columns.max()) + 1 - x)
        values, valid = self._values(window)
        keys = np.array(sorted(table), np.int64)
        ids = np.zeros(values.shape, np.uint8)
        if len(keys):
            index = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
            valid &= keys[index] == values
            ids = np.array([table[int(k)] for k in keys], np.uint8)[index]
        key = np.ix_(rows - y, columns - x)
        return valid[key], ids[key]

    def _values(self, roi: Roi) -> tuple[Values, Mask]:
        """A rectangle of the mask as whole numbers, and where there are some."""
        pixels = self._mask.read(roi, bands=self._bands)
        data, valid = pixels.data, pixels.valid.copy()
        if data.dtype.kind == "f":
            valid &= np.isfinite(data).all(-1)
            whole = np.where(valid[..., None], data, 0)
            if (whole != np.round(whole)).any():
                raise OpenError(
                    f"{self._mask.name} holds fractions, not classes.",
                    "Choose a mask: one whole number for each class.",
                )
            data = whole
        values = data.astype(np.int64)
        if self._colored:
            return values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2], valid
        return values[..., 0], valid


def _placed(mask: Image, image: Georeferenced, at: Roi | None) -> Affine:
    """From the image's pixels to the mask's. Raises OpenError where none is known."""
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
            f"{mask.name} is in another coordinate system than {image.name}.",
            "Warp it first: gdalwarp -t_srs with the image's, and -r near.",
        )
    transform = ~Transform(*(mask.affine or ())) * Transform(*(image.affine or ()))
    a, b, c, d, e, f = tuple(transform)[:6]
    if max(abs(b), abs(d)) * max(image.shape) > 0.5:
        raise OpenError(
            f"{mask.name} is turned against {image.name}.",
            "Warp it onto the image's grid first: gdalwarp with -r near.",
        )
    return (a, 0.0, c, 0.0, e, f)
