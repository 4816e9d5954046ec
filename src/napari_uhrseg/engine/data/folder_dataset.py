"""Data set of images and masks in folders.

A mask is an image of the same size whose pixel values, or RGB colours, represent
classes; see `class_mask`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from napari_uhrseg.engine.data.class_mask import ClassMask, LabelRaster
from napari_uhrseg.engine.data.decoded_image import decode_images
from napari_uhrseg.engine.data.mask_legend import infer_legend
from napari_uhrseg.engine.data.scenes import (
    SCENE_CACHE,
    Scene,
    SceneDataset,
    held_out_names,
)
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.readers.registry import suffixes
from napari_uhrseg.types import IGNORED, Legend
from napari_uhrseg.units import counted, formatted

MAX_NAMES_SHOWN = 5  # in a warning

Paths = Path | str | Sequence[Path | str]


class FolderDataset(SceneDataset):
    """Images paired with masks of the same stem, split by scene.

    ``warnings`` name files that are left out and mask values that are not used.

    Parameters
    ----------
    images, masks
        Folder of the images and folder of the masks, or two files. Several folders and
        files of each are used together.
    legend
        Classes with ``source_value``; ``None``: one class for each value of the masks.
    ignore
        Mask values that represent no class. ``None``: 255 in masks that are not in
        colour, unless a class has this value or the only other value is 0. Values that
        a file marks as missing represent no class unless ``legend`` contains them.
    held_out
        Stems of the scenes for validation, or their share, 0 to 1 (0: none).
    seed
        Seed that selects the validation scenes for a share.
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
        images: Paths,
        masks: Paths,
        legend: Legend | None = None,
        ignore: Collection[int] | None = None,
        held_out: float | Collection[str] = 0.2,
        seed: int = 0,
        cache: int = SCENE_CACHE,
    ) -> None:
        pairs, warnings = find_pairs(_paths(images), _paths(masks))
        kept = held_out_names(list(pairs), held_out, seed)
        pictures = [open_image(image) for image, _ in pairs.values()]
        colors = _prefers_colors(legend)
        found = MaskSet.read(
            [ClassMask(open_image(m), colors=colors) for _, m in pairs.values()],
            pictures,
        )
        guesses = ignore is None and legend is None
        ignored = found.ignored(ignore, legend)
        legend = legend or found.legend(ignored)
        share = cache // 4  # the rest is for the images
        decoded = decode_images(pictures, cache - share)
        rasters = found.rasters(legend, ignored, share // len(pairs))
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
            pixel_counts=dict(zip(pairs, found.class_counts(legend), strict=True)),
            warnings=(*warnings, *found.warnings(ignored, guesses=guesses)),
        )


@dataclass(frozen=True, slots=True)
class MaskSet:
    """Masks of a data set with the number of pixels of each value.

    Parameters
    ----------
    masks
        The masks.
    counts
        Pixels of each value, for each mask.
    """

    masks: Sequence[ClassMask]
    counts: Sequence[Mapping[int, int]]

    @classmethod
    def read(cls, masks: Sequence[ClassMask], images: Sequence[Image]) -> "MaskSet":
        """Check the sizes of masks against their images, and count the values."""
        for image, mask in zip(images, masks, strict=True):
            _check_shapes(image, mask.image)
        return cls(masks, [mask.count() for mask in masks])

    def ignored(
        self, ignore: Collection[int] | None, legend: Legend | None
    ) -> list[frozenset[int]]:
        """Return the values without a class of each mask.

        Parameters
        ----------
        ignore
            Values that the user ignores; ``None``: the default of `FolderDataset`.
        legend
            Classes with ``source_value``; ``None``: they are not known.
        """
        taken = {c.source_value for c in legend or ()}
        known = legend is not None or not self._binary
        default = frozenset({IGNORED} - taken) if known else frozenset()
        chosen = [
            frozenset(ignore)
            if ignore is not None
            else (frozenset() if mask.colored else default)
            for mask in self.masks
        ]
        return [
            some | (mask.nodata - taken)
            for some, mask in zip(chosen, self.masks, strict=True)
        ]

    def legend(self, ignored: Sequence[Collection[int]]) -> Legend:
        """Return a legend with one class for each value that is not ignored.

        Raises
        ------
        TrainingError
            If there are fewer than two values or too many, or the colour tables of the
            masks contradict each other.
        """
        present: set[int] = set()
        colors: dict[int, object] = {}
        for mask, counts, some in zip(self.masks, self.counts, ignored, strict=True):
            table = (not mask.colored and mask.image.colormap) or {}
            here = counts.keys() - set(some)
            present |= here
            for value in here & table.keys():
                if colors.setdefault(value, table[value][:3]) != table[value][:3]:
                    raise TrainingError(
                        f"Value {value} has different colours in the colour tables of "
                        f"{self.masks[0].image.name} and {mask.image.name}.",
                        "Give a classes file if the values are the classes. Save the "
                        "masks in RGB if the colours are.",
                    )
        return infer_legend(present, self.masks[0])

    def rasters(
        self, legend: Legend, ignored: Sequence[Collection[int]], limit: int
    ) -> list[LabelRaster]:
        """Return the class indices of the masks.

        Parameters
        ----------
        legend
            Classes with ``source_value``.
        ignored
            Values without a class, for each mask.
        limit
            Largest number of pixels of a mask in memory.

        Raises
        ------
        TrainingError
            If a mask contains values that no class has.
        """
        known = {c.source_value for c in legend}
        for mask, counts, some in zip(self.masks, self.counts, ignored, strict=True):
            unknown = counts.keys() - known - set(some)
            if unknown:
                shown = ", ".join(map(str, sorted(unknown)[:8]))
                raise TrainingError(
                    f"The mask {mask.image.name} has values that no class has: "
                    f"{shown}.",
                    "Add the classes, or ignore these values.",
                )
        return [
            LabelRaster(mask, legend, some, limit)
            for mask, some in zip(self.masks, ignored, strict=True)
        ]

    def class_counts(self, legend: Legend) -> list[tuple[int, ...]]:
        """Return the number of pixels of each class, for each mask."""
        values = [c.source_value for c in legend]
        return [
            tuple(0 if v is None else counts.get(v, 0) for v in values)
            for counts in self.counts
        ]

    def warnings(
        self, ignored: Sequence[Collection[int]], *, guesses: bool
    ) -> Iterator[str]:
        """Yield messages about values that are used or not used unexpectedly.

        Parameters
        ----------
        ignored
            Values without a class, for each mask.
        guesses
            True if the user named neither classes nor values to ignore.
        """
        if guesses and self._binary:
            yield "the masks have only the values 0 and 255, so 255 is a class"
        missing, total = 0, 0
        values: set[int] = set()
        for mask, counts, some in zip(self.masks, self.counts, ignored, strict=True):
            height, width = mask.image.shape
            lost = mask.nodata & set(some) & counts.keys()
            values |= lost
            total += height * width
            missing += height * width - sum(counts.values())
            missing += sum(counts[value] for value in lost)
        if missing:
            named = f" (nodata {', '.join(map(str, sorted(values)))})" if values else ""
            yield (
                f"{formatted(missing / total, '.1%')} of the mask pixels are marked as "
                "missing in "
                f"the files{named} and are not used"
                + ("; to use such a value, list it in a classes file" if values else "")
            )

    @property
    def _binary(self) -> bool:
        """True if 0 and 255 are the only numbers, as in many binary masks."""
        found: set[int] = set()
        for mask, counts in zip(self.masks, self.counts, strict=True):
            found |= counts.keys() - mask.nodata
        numbers = all(len(m.image.bands) < 3 for m in self.masks)
        return numbers and found == {0, IGNORED}


class Pairs(NamedTuple):
    """Paths of image and mask by file stem, and messages about other files."""

    paths: Mapping[str, tuple[Path, Path]]
    warnings: tuple[str, ...]


def _paths(given: Paths) -> tuple[Path, ...]:
    several = (given,) if isinstance(given, Path | str) else given
    return tuple(Path(path) for path in several)


def find_pairs(images: Sequence[Path], masks: Sequence[Path]) -> Pairs:
    """Return the pairs of image and mask by file stem, sorted by stem.

    The paths are folders or files. One image file and one mask file are a pair with any
    stems. Files of folders that are not of a supported image format are left out.

    Raises
    ------
    TrainingError
        If a path is missing, no image has a mask of the same stem, or two images or two
        masks have the same stem.
    """
    for path in (*images, *masks):
        if not path.exists():
            raise TrainingError(f"There is no {path}.", "Check the path.")
    if len(images) == len(masks) == 1 and images[0].is_file() and masks[0].is_file():
        return Pairs({images[0].stem: (images[0], masks[0])}, ())
    first, second = _by_stem(images), _by_stem(masks)
    pairs = {
        stem: (first[stem], second[stem]) for stem in sorted(first) if stem in second
    }
    if not pairs:
        raise TrainingError(
            f"No image in {_listed(images)} ({counted(len(first), 'image')}) has a "
            f"mask of the same name in {_listed(masks)} "
            f"({counted(len(second), 'image')}).",
            "Name them alike, for example images/scene1.tif and masks/scene1.png.",
        )
    return Pairs(pairs, _without_partner(first.keys(), second.keys()))


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _without_partner(images: Set[str], masks: Set[str]) -> tuple[str, ...]:
    """Return messages about images without a mask and masks without an image."""
    alone = (
        _left_out(images - masks, "image", "mask"),
        _left_out(masks - images, "mask", "image"),
    )
    return tuple(filter(None, alone))


def _left_out(stems: Collection[str], what: str, partner: str) -> str:
    """Return a message about files without a partner; empty if there are none."""
    if not stems:
        return ""
    shown = sorted(stems)[:MAX_NAMES_SHOWN]
    more = ", …" if len(stems) > len(shown) else ""
    return (
        f"left out because of a missing {partner}: {counted(len(stems), what)} "
        f"({', '.join(shown)}{more})"
    )


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the image files of folders, and files, by stem."""
    found: dict[str, Path] = {}
    for file in (file for path in paths for file in _files(path)):
        twin = found.setdefault(file.stem, file)
        if twin is not file:
            same = twin.parent == file.parent
            where = f" in {file.parent}" if same else f" ({twin}, {file})"
            raise TrainingError(
                f"{twin.name} and {file.name}{where} have the same stem.",
                "Keep one of them, or rename it.",
            )
    return found


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or the images of a folder sorted by name."""
    for file in (path,) if path.is_file() else sorted(path.iterdir()):
        known = file.is_file() and file.name.lower().endswith(suffixes())
        if known and file.name[0] != ".":
            yield file


def _prefers_colors(legend: Legend | None) -> bool:
    """Return True if values of the legend are colours: too large for a colour table."""
    return any((c.source_value or 0) > 65535 for c in legend or ())


def _check_shapes(picture: Image, target: Image) -> None:
    if picture.shape != target.shape:
        raise TrainingError(
            f"{picture.name} has {picture.shape[0]} x {picture.shape[1]} pixels and "
            f"its mask {target.shape[0]} x {target.shape[1]}.",
            "A mask needs the size of its image.",
        )
