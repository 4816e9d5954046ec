"""Scenes with known labels, and training windows drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.network.inputs import read_views
from napari_uhrseg.engine.planning.image_fit import fit_bands, fit_scale, fit_values
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image, Pixels
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import IGNORED, InputSpec, Labels, Legend, Roi
from napari_uhrseg.units import MB

SCENE_CACHE = 1024 * MB  # decoded scenes kept in memory; larger sets are read as needed
CLASS_PIXEL_STEP = 8  # pixels between those looked at for where the classes are
MAX_DRAWS = 10  # windows drawn before one without any label is taken


class GroundTruth(Protocol):
    """The known labels of a scene."""

    def read(self, roi: Roi) -> Labels:
        """(h, w) uint8 class indices from 0; 255: unknown, or outside the scene."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An image and its labels.

    ``bands`` and ``value_range`` are chosen by :meth:`fitted` unless given;
    ``scale`` is level-0 pixels per run pixel.
    """

    name: str
    image: Image
    target: GroundTruth
    bands: tuple[int, ...] = ()
    value_range: tuple[float, float] | None = None
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in run pixels."""
        height, width = (max(1, round(n / self.scale)) for n in self.image.shape)
        return height, width

    def fitted(self, spec: InputSpec) -> "Scene":
        """The scene with bands, values and scale as a model wants them."""
        bands = fit_bands(self.image, spec.channels, self.bands or None)
        scale = fit_scale(self.image, spec)[0] if self.scale == 1 else self.scale
        values = fit_values(self.image, spec, self.value_range)
        return replace(self, bands=bands, value_range=values, scale=scale)

    def inputs(
        self,
        windows: Sequence[Roi],
        spec: InputSpec,
        shift: tuple[int, int] = (0, 0),
    ) -> Batch:
        """The views of windows in run pixels; for fitted scenes."""
        assert self.value_range is not None
        return read_views(
            self.image,
            windows,
            spec,
            bands=self.bands,
            value_range=self.value_range,
            scale=self.scale,
            shift=shift,
        )

    def labels(self, window: Roi) -> Labels:
        """Class indices of a rectangle of run pixels, the nearest where scaled."""
        if self.scale == 1:
            return self.target.read(window)
        rows = _pixel_centres(window.y, window.height, self.scale)
        columns = _pixel_centres(window.x, window.width, self.scale)
        y, x = int(rows[0]), int(columns[0])
        roi = Roi(y, x, int(rows[-1]) - y + 1, int(columns[-1]) - x + 1)
        return self.target.read(roi)[np.ix_(rows - y, columns - x)]


PixelIndex = npt.NDArray[np.int64]


class Sample(NamedTuple):
    scene: Scene
    window: Roi


class Dataset(Protocol):
    """Scenes to learn from and scenes held out, apart from each other by place."""

    @property
    def legend(self) -> Legend:
        """Class k of the network is the legend's k-th."""

    @property
    def balance(self) -> float:
        """Share of the windows that are drawn class by class."""

    @property
    def held_out(self) -> Sequence[Scene]:
        """Never drawn from; may be empty."""

    def fitted(self, spec: InputSpec) -> "Dataset":
        """The source with its scenes fitted to a model."""

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """A random place to learn from, decided by ``rng`` alone."""


@dataclass(frozen=True)
class SceneDataset:
    """A source made of whole scenes, split by scene.

    ``balance`` is the share of windows drawn around a pixel of a class, all classes
    being as likely as each other; the rest is uniform over the ground.
    """

    legend: Legend
    training: tuple[Scene, ...]
    held_out: tuple[Scene, ...] = ()
    balance: float = 0.0
    _shares: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _class_pixels: tuple[PixelIndex, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.training:
            raise TrainingError(
                "There is no scene to learn from.", "Hold out fewer scenes."
            )
        areas = np.array([s.image.shape[0] * s.image.shape[1] for s in self.training])
        object.__setattr__(self, "_shares", areas / areas.sum())
        places = find_class_pixels(self.training) if self.balance > 0 else ()
        object.__setattr__(self, "_class_pixels", places)

    @property
    def cached_bytes(self) -> int:
        """Bytes of scenes and targets that lie decoded in memory."""
        scenes = (*self.training, *self.held_out)
        kept = [part for scene in scenes for part in (scene.image, scene.target)]
        return sum(getattr(part, "cached_bytes", 0) for part in kept)

    def with_class_balance(self, share: float) -> "SceneDataset":
        """The same scenes, that share of windows drawn class by class."""
        if not 0 <= share <= 1:
            raise TrainingError(
                f"A share of {share:g} windows is impossible.", "Choose 0 to 1."
            )
        return SceneDataset(self.legend, self.training, self.held_out, share)

    def fitted(self, spec: InputSpec) -> "SceneDataset":
        return SceneDataset(  # not replace(): subclasses are made in their own ways
            self.legend,
            tuple(s.fitted(spec) for s in self.training),
            tuple(s.fitted(spec) for s in self.held_out),
            self.balance,
        )

    def crop_size(self, spec: InputSpec) -> int:
        """Side in run pixels of what is learnt from at once; for fitted scenes.

        Of a model on frames no more than most scenes hold: an image smaller than a
        frame is labelled as it is, so an overview with made-up ground around it would
        show another scale than it will.
        """
        if spec.frame is None:
            return spec.window
        typical = int(np.median([min(scene.shape) for scene in self.training]))
        crop_size = min(spec.window, typical)
        return max(spec.minimum, crop_size // spec.divisor * spec.divisor)

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """A window of the scenes' ground; those without labels are drawn anew."""
        if self._class_pixels and rng.random() < self.balance:
            return self._around_a_class(rng, window)
        for _ in range(MAX_DRAWS):
            scene = self.training[rng.choice(len(self.training), p=self._shares)]
            y, x = (int(rng.integers(0, max(0, n - window) + 1)) for n in scene.shape)
            roi = Roi(y, x, window, window)
            if (scene.labels(roi) != IGNORED).any():
                break
        return Sample(scene, roi)

    def _around_a_class(self, rng: np.random.Generator, window: int) -> Sample:
        places = self._class_pixels[rng.integers(len(self._class_pixels))]
        number, *at = places[rng.integers(len(places))]
        scene = self.training[number]
        y, x = (
            min(max(0, int(p - rng.integers(window))), max(0, n - window))
            for p, n in zip(at, scene.shape, strict=True)
        )
        return Sample(scene, Roi(y, x, window, window))


def find_class_pixels(scenes: Sequence[Scene]) -> tuple[PixelIndex, ...]:
    """Where each class that occurs is: (n, 3) scene number, y and x in run pixels.

    Every ``EACH``-th pixel of every ``EACH``-th row is looked at.
    """
    found: dict[int, list[PixelIndex]] = {}
    for number, scene in enumerate(scenes):
        height, width = scene.shape
        for y in range(CLASS_PIXEL_STEP // 2, height, CLASS_PIXEL_STEP):
            row = scene.labels(Roi(y, 0, 1, width))[
                0, CLASS_PIXEL_STEP // 2 :: CLASS_PIXEL_STEP
            ]
            for value in np.unique(row[row != IGNORED]):
                x = (
                    np.nonzero(row == value)[0] * CLASS_PIXEL_STEP
                    + CLASS_PIXEL_STEP // 2
                )
                where = (np.full_like(x, number), np.full_like(x, y), x)
                found.setdefault(int(value), []).append(np.stack(where, axis=1))
    return tuple(np.concatenate(found[value]) for value in sorted(found))


class DecodedImage:
    """A scene's image decoded once; coarser reads still go to the file."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._pixels = image.read(Roi(0, 0, *image.shape))

    def __getattr__(self, name: str) -> object:
        return getattr(self._image, name)

    @property
    def cached_bytes(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for array in self._pixels)

    def read(
        self,
        roi: Roi,
        size: tuple[int, int] | None = None,
        bands: Sequence[int] | None = None,
    ) -> Pixels:
        """As ``Image.read``."""
        whole = Roi(0, 0, *self._image.shape)
        if size not in (None, (roi.height, roi.width)) or not whole.contains(roi):
            return self._image.read(roi, size, bands)
        data, valid = (a[roi.slices] for a in self._pixels)
        chosen = None if bands is None else list(bands)
        if chosen is not None and chosen != list(range(data.shape[-1])):
            data = data[..., chosen]
        return Pixels(data, valid)


def decode_images(images: Sequence[Image], limit: int = SCENE_CACHE) -> list[Image]:
    """The images, decoded once as long as they fit into that many bytes."""
    found = []
    for image in images:
        height, width = image.shape
        needed = height * width * (len(image.bands) * image.dtype.itemsize + 1)
        limit -= needed
        found.append(cast("Image", DecodedImage(image)) if limit >= 0 else image)
    return found


def _pixel_centres(first: int, count: int, scale: float) -> npt.NDArray[np.int64]:
    """Level-0 pixels under the centres of run pixels."""
    places = (np.arange(first, first + count) + 0.5) * scale
    return np.floor(places).astype(np.int64)  # type: ignore[no-any-return]
