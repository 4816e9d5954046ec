"""Masks: images whose values represent classes, and their class indices.

The value of a pixel is its number, its index in the colour table of the file, or its
RGB colour as the number 0xRRGGBB.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import IGNORED, Labels, Legend, Roi

MAX_STRIP_PIXELS = 1 << 22  # pixels of a mask that are read at a time
MAX_VALUES = 64  # a mask with more distinct values does not contain classes


class ClassMask:
    """Mask, read as integers.

    Parameters
    ----------
    image
        The mask as an image.
    colors
        Read the colours of a mask with a colour table instead of its indices.

    Attributes
    ----------
    image
        The mask as an image.
    colored
        True if the values are packed RGB colours.
    nodata
        Values that the file marks as missing: nodata values, or transparent entries of
        the colour table.
    """

    def __init__(self, image: Image, *, colors: bool = False) -> None:
        self.image = image
        self._indices = None if colors else image.indices
        self.colored = self._indices is None and len(image.bands) >= 3
        self.nodata = self._missing_values()

    def values(self, roi: Roi) -> tuple[npt.NDArray, npt.NDArray[np.bool_]]:
        """Return (h, w) values of a rectangle, and True where a pixel has a value.

        Pixels with a value of `nodata` have a value.
        """
        whole = Roi(0, 0, *self.image.shape)
        if self._indices is not None and whole.contains(roi):
            indices = np.asarray(self._indices[roi.slices])
            return indices, self._shown(roi)
        data, valid = self.image.read(roi)
        values = data[..., 0]
        if self.colored:
            red, green, blue = (data[..., i].astype(np.int64) for i in range(3))
            values = red << 16 | green << 8 | blue
        if self.nodata:
            valid = valid | (np.isin(values, list(self.nodata)) & self._shown(roi))
        return values, valid

    def count(self) -> Mapping[int, int]:
        """Return the number of pixels of each value; the mask is read in strips.

        Reading ends early if there are far too many values.

        Raises
        ------
        TrainingError
            If the mask has fractional values.
        """
        found: dict[int, int] = {}
        for roi in strips(self.image.shape):
            values, valid = self.values(roi)
            some, counts = _counted(values[valid])
            if not np.array_equal(some, some.astype(np.int64)):
                raise TrainingError(
                    f"The mask {self.image.name} has fractional values, which are not "
                    "classes.",
                    "Save one integer or one colour for each class.",
                )
            for value, count in zip(some.tolist(), counts.tolist(), strict=True):
                found[int(value)] = found.get(int(value), 0) + count
            if len(found) > 4 * MAX_VALUES:
                break
        return found

    def _missing_values(self) -> frozenset[int]:
        image = self.image
        if self._indices is not None:
            table = image.colormap or {}
            return frozenset(i for i, (*_, alpha) in table.items() if not alpha)
        bands = image.bands[: 3 if self.colored else 1]
        values = [band.nodata for band in bands if band.nodata is not None]
        if len(values) < len(bands) or image.dtype.kind == "f":
            return frozenset()
        found = 0
        for value in values:
            if value != int(value) or value < 0:
                return frozenset()
            found = found << 8 | int(value) if self.colored else int(value)
        return frozenset({found})

    def _shown(self, roi: Roi) -> npt.NDArray[np.bool_]:
        """Return True for pixels inside the image that its mask band does not hide."""
        shown = np.zeros((roi.height, roi.width), bool)
        inside = roi.intersect(Roi(0, 0, *self.image.shape))
        at = inside.shift(-roi.y, -roi.x).slices
        masks = self.image.masks
        shown[at] = np.asarray(masks[0][inside.slices]) > 0 if masks else True
        return shown


class LabelRaster:
    """Class indices of a mask, in memory if it is small, otherwise read as needed.

    Parameters
    ----------
    mask
        The mask.
    legend
        Classes with ``source_value``, the mask values of the classes.
    ignore
        Mask values that represent no class.
    limit
        Largest number of pixels of a mask in memory.
    """

    def __init__(
        self, mask: ClassMask, legend: Legend, ignore: Collection[int], limit: int
    ) -> None:
        known = [(c.source_value, k) for k, c in enumerate(legend)]
        known += [(value, IGNORED) for value in ignore]
        table = {value: k for value, k in known if value is not None}
        self._values = np.array(sorted(table))
        self._indices = np.array([table[v] for v in sorted(table)], np.uint8)
        self._mask, self._shape = mask, mask.image.shape
        self._array: Labels | None = None
        if self._shape[0] * self._shape[1] <= limit:
            parts = [self._indexed(roi) for roi in strips(self._shape)]
            self._array = np.concatenate(parts)

    @property
    def cached_bytes(self) -> int:
        """Bytes in memory."""
        return 0 if self._array is None else self._array.nbytes

    def read(self, roi: Roi) -> Labels:
        """Return (h, w) uint8 class indices; 255: unknown or outside the image."""
        found = np.full((roi.height, roi.width), IGNORED, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self._shape))
        if inside.area:
            found[inside.shift(-roi.y, -roi.x).slices] = (
                self._indexed(inside)
                if self._array is None
                else self._array[inside.slices]
            )
        return found

    def _indexed(self, roi: Roi) -> Labels:
        values, valid = self._mask.values(roi)
        at = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
        indices = np.where(
            (self._values[at] == values) & valid, self._indices[at], IGNORED
        )
        return indices.astype(np.uint8)


def strips(shape: tuple[int, int]) -> Iterator[Roi]:
    """Yield the rows of an image in parts of at most `MAX_STRIP_PIXELS` pixels."""
    rows = max(1, MAX_STRIP_PIXELS // shape[1])
    for y in range(0, shape[0], rows):
        yield Roi(y, 0, min(rows, shape[0] - y), shape[1])


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, and the number of each."""
    if values.dtype != np.uint8:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values, minlength=256)
    some = np.nonzero(counts)[0]
    return some, counts[some]
