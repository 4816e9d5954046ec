"""Data set of images and masks in folders.

A mask is an image of the same size whose pixel values, or RGB colours, represent
classes. A colour is treated as a value, the number 0xRRGGBB.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.decoded_image import decode_images
from napari_uhrseg.engine.data.scenes import SCENE_CACHE, Scene, SceneDataset
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.dataset_legends import distinct_color
from napari_uhrseg.types import IGNORED, LabelClass, Labels, Legend, Roi

MAX_STRIP_PIXELS = 1 << 22  # pixels of a mask that are read at a time
MAX_VALUES = 64  # a mask with more distinct values does not contain classes


class LabelRaster:
    """Class indices of a mask, in memory if it is small, otherwise read as needed.

    Parameters
    ----------
    image
        The mask.
    legend
        Classes with ``source_value``, the mask values of the classes.
    ignore
        Mask values that represent no class.
    limit
        Largest number of pixels of a mask in memory.
    """

    def __init__(
        self,
        image: Image,
        legend: Legend,
        ignore: Collection[int],
        limit: int = SCENE_CACHE,
    ) -> None:
        known = [(c.source_value, k) for k, c in enumerate(legend)]
        known += [(value, IGNORED) for value in ignore]
        table = {value: k for value, k in known if value is not None}
        self._values = np.array(sorted(table))
        self._indices = np.array([table[v] for v in sorted(table)], np.uint8)
        self._image = image
        self._array: Labels | None = None
        if image.shape[0] * image.shape[1] <= limit:
            parts = [self._indexed(roi) for roi in _strips(image.shape)]
            self._array = np.concatenate(parts)

    @property
    def cached_bytes(self) -> int:
        """Bytes in memory."""
        return 0 if self._array is None else self._array.nbytes

    def read(self, roi: Roi) -> Labels:
        """Return (h, w) uint8 class indices; 255: unknown or outside the image."""
        found = np.full((roi.height, roi.width), IGNORED, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self._image.shape))
        if inside.area:
            found[inside.shift(-roi.y, -roi.x).slices] = (
                self._indexed(inside)
                if self._array is None
                else self._array[inside.slices]
            )
        return found

    def _indexed(self, roi: Roi) -> Labels:
        values, valid = _values(self._image, roi)
        at = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
        indices = np.where(
            (self._values[at] == values) & valid, self._indices[at], IGNORED
        )
        return indices.astype(np.uint8)


class FolderDataset(SceneDataset):
    """Images paired with masks of the same stem, split by scene.

    Parameters
    ----------
    images, masks
        Folder of the images and folder of the masks, or two files.
    legend
        Classes with ``source_value``; ``None``: one class for each value of the masks.
    ignore
        Mask values that represent no class; ``None``: 255, unless a class has it.
    held_out
        Stems of the scenes for validation, or their share, 0 to 1 (0: none).
    seed
        Seed that selects the validation scenes for a share.
    names
        Class names in the order of the sorted mask values, if ``legend`` is ``None``;
        empty: names made from the values.
    cache
        Largest size in bytes of the decoded scenes in memory.

    Raises
    ------
    TrainingError
        If no image has a mask, the size of a mask differs from that of its image, or a
        mask contains values that no class has.
    OpenError
        If a file is not an image.
    """

    def __init__(
        self,
        images: Path | str,
        masks: Path | str,
        legend: Legend | None = None,
        ignore: Collection[int] | None = None,
        held_out: float | Collection[str] = 0.2,
        seed: int = 0,
        names: Sequence[str] = (),
        cache: int = SCENE_CACHE,
    ) -> None:
        if ignore is None:
            taken = {c.source_value for c in legend or ()}
            ignore = {IGNORED} - taken
        pairs = find_pairs(Path(images), Path(masks))
        kept = _held_out(list(pairs), held_out, seed)
        pictures = [open_image(image) for image, _ in pairs.values()]
        targets = [open_image(mask) for _, mask in pairs.values()]
        for picture, target in zip(pictures, targets, strict=True):
            _check_shapes(picture, target)
        found = [_mask_values(target) for target in targets]
        if legend is None:
            present = set().union(*found) - set(ignore)
            legend = infer_legend(present, targets[0], names)
        for name, values in zip(pairs, found, strict=True):
            _check_values(name, values, legend, ignore)
        share = cache // 4  # the rest is for the images
        decoded = decode_images(pictures, cache - share)
        rasters = [
            LabelRaster(target, legend, ignore, share // len(pairs))
            for target in targets
        ]
        scenes = [
            Scene(name, picture, raster, decoded=pixels)
            for name, picture, raster, pixels in zip(
                pairs, pictures, rasters, decoded, strict=True
            )
        ]
        super().__init__(
            legend=legend,
            training=tuple(s for s in scenes if s.name not in kept),
            held_out=tuple(s for s in scenes if s.name in kept),
            cached_bytes=sum(c.cached_bytes for c in (*decoded, *rasters) if c),
        )


def find_pairs(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """Return the pairs of image and mask by file stem, sorted by stem.

    Raises
    ------
    TrainingError
        If a folder is missing, or no stem occurs in both folders.
    """
    for path in (images, masks):
        if not path.exists():
            raise TrainingError(f"There is no {path}.", "Check the path.")
    if images.is_file() and masks.is_file():
        return {images.stem: (images, masks)}
    first, second = ({p.stem: p for p in _files(f)} for f in (images, masks))
    pairs = {
        stem: (first[stem], second[stem]) for stem in sorted(first) if stem in second
    }
    if not pairs:
        raise TrainingError(
            f"No image in {images} ({len(first)} files) has a mask of the same name "
            f"in {masks} ({len(second)} files).",
            "Name them alike, for example images/scene1.tif and masks/scene1.png.",
        )
    return pairs


def infer_legend(
    values: Collection[int], mask: Image, names: Sequence[str] = ()
) -> Legend:
    """Return a legend with one class for each mask value.

    Colours come from the mask's colour table or its RGB values.

    Parameters
    ----------
    values
        Distinct values of the masks, 1 to `MAX_VALUES`.
    mask
        A mask, for its colour table and number of bands.
    names
        Class names in the order of the sorted values; empty: names made from the
        values.

    Raises
    ------
    TrainingError
        If there is no value, there are too many values, or the number of names differs.
    """
    if not 1 <= len(values) <= MAX_VALUES:
        raise TrainingError(
            f"The masks hold {len(values)} different values, which cannot be classes.",
            "Masks need one value or colour a class, saved without loss (PNG or "
            "TIFF, not JPEG).",
        )
    if names and len(names) != len(values):
        raise TrainingError(
            f"{len(names)} class names are given and the masks hold the "
            f"{len(values)} values {sorted(values)}.",
            "Give one name a value in that order; say which values to ignore.",
        )
    table = mask.colormap or {}
    classes = []
    for k, value in enumerate(sorted(values)):
        if value in table:
            color = "#{:02x}{:02x}{:02x}".format(*table[value][:3])
        elif len(mask.bands) >= 3:
            color = f"#{value:06x}"
        else:
            color = distinct_color(k)
        name = names[k] if names else f"class {color if value > 65535 else value}"
        classes.append(LabelClass(k + 1, name, color, value))
    return Legend(tuple(classes))


def read_classes(path: Path | str) -> Legend:
    """Read a legend from a text file with one class ``value name [#rrggbb]`` per line.

    If a line does not start with a number, its value is its position, from 0. A colour
    at the start, ``#rrggbb name``, is both the value in RGB masks and the colour.

    Raises
    ------
    TrainingError
        If the file is missing or cannot be read, or a name occurs twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"The classes in {path} cannot be read: {error}.", "Check the path."
        ) from error
    pattern = re.compile(r"(?:(\d+|#[0-9a-fA-F]{6})\s+)?(.+?)(?:\s+(#[0-9a-fA-F]{6}))?")
    classes: list[LabelClass] = []
    for text in filter(None, map(str.strip, lines)):
        match = pattern.fullmatch(text)
        assert match  # a line that is not empty has at least a name
        value, name, color = match.groups()
        place = len(classes)
        if value and value[0] == "#":
            source, color = int(value[1:], 16), color or value
        else:
            source = int(value) if value else place
        color = (color or distinct_color(place)).lower()
        classes.append(LabelClass(place + 1, name, color, source))
    try:
        return Legend(tuple(classes))
    except ValueError as error:
        raise TrainingError(f"{path}: {error}.", "Use each name once.") from error


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")


def _held_out(stems: list[str], wanted: float | Collection[str], seed: int) -> set[str]:
    if not isinstance(wanted, int | float):
        unknown = sorted(set(wanted) - set(stems))
        if unknown:
            raise TrainingError(
                f"There is no scene named {', '.join(unknown)} to hold out.",
                f"There are: {', '.join(stems)}.",
            )
        return set(wanted)
    if wanted <= 0 or len(stems) < 2:
        return set()
    count = min(len(stems) - 1, max(1, round(wanted * len(stems))))
    order = np.random.default_rng(seed).permutation(len(stems))
    return {stems[i] for i in order[:count]}


def _strips(shape: tuple[int, int]) -> Iterator[Roi]:
    rows = max(1, MAX_STRIP_PIXELS // shape[1])
    for y in range(0, shape[0], rows):
        yield Roi(y, 0, min(rows, shape[0] - y), shape[1])


def _values(image: Image, roi: Roi) -> tuple[npt.NDArray, npt.NDArray[np.bool_]]:
    """Return (h, w) values or packed colours of a mask, and which are valid.

    `Image.read` returns the colours of a mask with a colour table. Its values are the
    indices in the table (the lowest index for a colour that occurs twice).
    """
    data, valid = image.read(roi)
    if data.shape[-1] < 3:
        return data[..., 0], valid
    red, green, blue = (data[..., i].astype(np.int64) for i in range(3))
    packed = red << 16 | green << 8 | blue
    if image.colormap is None:
        return packed, valid
    table: dict[int, int] = {}
    for index, (r, g, b, *_) in sorted(image.colormap.items(), reverse=True):
        table[r << 16 | g << 8 | b] = index
    colors = np.array(sorted(table))
    indices = np.array([table[c] for c in sorted(table)])
    return indices[np.searchsorted(colors, packed).clip(max=len(colors) - 1)], valid


def _mask_values(image: Image) -> set[int]:
    """Return the distinct values of a mask; it is read in strips."""
    found: set[int] = set()
    for roi in _strips(image.shape):
        values, valid = _values(image, roi)
        if values.dtype == np.uint8:
            some = np.nonzero(np.bincount(values[valid], minlength=256))[0]
        else:
            some = np.unique(values[valid])
        if not np.array_equal(some, some.astype(np.int64)):
            raise TrainingError(
                f"The mask {image.name} holds fractions, which cannot be classes.",
                "Masks need one whole number or colour a class.",
            )
        found |= {int(v) for v in some}
        if len(found) > 4 * MAX_VALUES:
            break
    return found


def _check_shapes(picture: Image, target: Image) -> None:
    if picture.shape != target.shape:
        raise TrainingError(
            f"{picture.name} has {picture.shape[0]} x {picture.shape[1]} pixels and "
            f"its mask {target.shape[0]} x {target.shape[1]}.",
            "A mask needs the size of its image.",
        )


def _check_values(
    name: str, values: set[int], legend: Legend, ignore: Collection[int]
) -> None:
    unknown = values - {c.source_value for c in legend} - set(ignore)
    if unknown:
        shown = ", ".join(map(str, sorted(unknown)[:8]))
        raise TrainingError(
            f"The mask {name} holds values that no class has: {shown}.",
            "Add the classes, or say that these values are to be ignored.",
        )
