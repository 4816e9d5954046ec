"""Corrections of a store as a source of samples, split by place.

::

    coarse correction level    where corrections are: nothing else is read
    points                     corrected pixels of a level that is fine enough, their
                               number bounded; windows are drawn around them
    places                     points nearer to each other than two windows see
    held out                   a fifth of the places; the others are learnt from
    elsewhere                  labelled ground, wherever it lies: a third of the windows
                               are drawn there, so that it is not forgotten
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.scenes import Sample, Scene
from napari_uhrseg.engine.finetuning.class_mapping import ClassMapping
from napari_uhrseg.engine.finetuning.correction_sites import (
    Ints,
    Points,
    SiteGrid,
    choose_held_out,
    find_points,
    find_sites,
    labelled_squares,
)
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import HELD_OUT, IGNORED, InputSpec, Labels, Legend, Roi

REPLAY_FRACTION = 1 / 3  # of the windows that teach are drawn anywhere
REPLAY_PIXELS = 1 << 20  # run pixels elsewhere that tell how much stays as it was


@dataclass(frozen=True, slots=True)
class CorrectionTargets:
    """What is known of a part of the corrected ground, read when asked for.

    ``chosen`` are rectangles outside of which nothing counts (None: all does);
    ``asked`` and ``hidden`` hold for each place's number whether its pixels are given,
    and whether they are given as `HELD_OUT`.
    """

    store: LabelStore
    channels: npt.NDArray[np.uint8]
    places: SiteGrid
    asked: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    chosen: tuple[Roi, ...] | None

    def read(self, roi: Roi) -> Labels:
        """As ``Target.read``."""
        found = np.full((roi.height, roi.width), IGNORED, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self.store.shape))
        if not inside.area:
            return found
        known = self.channels[read_array(self.store.correction[0], inside.slices)]
        if (known != IGNORED).any():
            place = self.places.of(inside)
            secret = self.hidden[place] & (known != IGNORED)
            known[~self.asked[place] | ~_within(inside, self.chosen)] = IGNORED
            known[secret] = HELD_OUT
        found[inside.shift(-roi.y, -roi.x).slices] = known
        return found


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How an image is fed to a network; as in a run."""

    bands: tuple[int, ...]
    value_range: tuple[float, float]
    scale: float


class CorrectionDataset:
    """Windows around corrected pixels, every class and every place as it is due.

    Parameters
    ----------
    image, how
        The image, and the bands, values and scale it is fed with.
    store, match
        Whose corrections, and which channel their classes are.
    spec
        Of the model.
    seed
        Decides which places are held out where any would do.
    chosen
        Level-0 rectangles to learn from; None: all.
    splits
        Whether places are held out where there are enough.

    Attributes
    ----------
    training_windows, held_out_windows
        In run pixels: squares with corrections that teach, and with held-out ones.
    replay_windows
        In run pixels: some of the labelled ground, corrected or not.
    has_validation
        Whether places are held out.
    """

    def __init__(
        self,
        image: Image,
        how: ImageInput,
        store: LabelStore,
        match: ClassMapping,
        spec: InputSpec,
        seed: int = 0,
        chosen: tuple[Roi, ...] | None = None,
        *,
        splits: bool = True,
    ) -> None:
        self.legend: Legend = match.legend
        self.merged = match.merged
        self.spec, self.scale = spec, how.scale
        self.places = find_sites(store, min_separation(spec) * how.scale)
        points = find_points(store, match.channels, self.places)
        if chosen is not None:
            inside = [any(_holds(r, y, x) for r in chosen) for y, x in points.at]
            points = points.where(np.array(inside, bool))
        self.splits = splits
        held = np.zeros(self.places.count + 1, bool)
        if splits:
            held = choose_held_out(points, self.places.count, seed)
        self.has_validation = bool(held.any())
        taken = held[points.place]
        self.training, self.tested = points.where(~taken), points.where(taken)
        args = (store, match.channels, self.places)
        shown = CorrectionTargets(*args, ~held, held, chosen)
        tested = CorrectionTargets(*args, held, np.zeros_like(held), chosen)
        self.scene, self.held_scene = (
            Scene(image.name, image, t, how.bands, how.value_range, how.scale)
            for t in (shown, tested)
        )
        self.windows = self._cells(self.training)
        self._ground, self._square = labelled_squares(store)
        self.training_windows = self._squares(self.windows)
        self.held_out_windows = self._squares(self._cells(self.tested))
        self._classes = [
            _Class.of(self.training.where(self.training.channel == k))
            for k in np.unique(self.training.channel)
        ]

    @property
    def held_out(self) -> Sequence[Scene]:
        return (self.held_scene,) if self.has_validation else ()

    @property
    def site_count(self) -> int:
        return len(np.unique(np.r_[self.training.place, self.tested.place]))

    def fitted(self, spec: InputSpec) -> "CorrectionDataset":
        """Itself: it was made for a model."""
        return self

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """A window around a correction, or anywhere where old answers can be held.

        What lies elsewhere may see held-out ground, but no label that a person gave it.
        """
        if self.splits and rng.random() < REPLAY_FRACTION:
            corner = self._ground[rng.integers(len(self._ground))]
            point = (corner + rng.integers(self._square, size=2)) / self.scale
            y, x = (int(p) - window // 2 for p in point)
            return Sample(self.scene, self._inside(Roi(y, x, window, window)))
        return self.sample_corrected(rng, window)

    def sample_corrected(self, rng: np.random.Generator, window: int) -> Sample:
        """A window around a corrected pixel: first its class, then its place."""
        of_class = self._classes[rng.integers(len(self._classes))]
        point = of_class.sample(rng) / self.scale
        y, x = (int(p - rng.integers(window)) for p in point)
        return Sample(self.scene, self._inside(Roi(y, x, window, window)))

    @property
    def replay_windows(self) -> list[Roi]:
        side = self.spec.window
        count = min(max(4, REPLAY_PIXELS // side**2), 16, len(self._ground))
        chosen = np.linspace(0, len(self._ground) - 1, count).round().astype(int)
        middles = (self._ground[chosen] + self._square // 2) / self.scale
        return [
            self._inside(Roi(int(y) - side // 2, int(x) - side // 2, side, side))
            for y, x in middles
        ]

    def fingerprint(self) -> str:
        """Of the points and windows: equal where the same is learnt and scored."""
        found = hashlib.sha256()
        for points in (self.training, self.tested):
            for array in (points.at, points.channel, points.place):
                found.update(np.ascontiguousarray(array).tobytes())
        found.update(self._ground.tobytes())
        found.update(repr(self.held_out_windows).encode())
        return found.hexdigest()

    def _squares(self, cells: Ints) -> list[Roi]:
        """The distinct windows of `_cells`, in run pixels."""
        side = self.spec.window
        return [
            self._inside(Roi(y * side, x * side, side, side))
            for y, x in np.unique(cells[:, 1:], axis=0).tolist()
        ]

    def _inside(self, window: Roi) -> Roi:
        """Moved into the image as far as it fits."""
        height, width = self.scene.shape
        y = min(max(0, window.y), max(0, height - window.height))
        x = min(max(0, window.x), max(0, width - window.width))
        return Roi(y, x, window.height, window.width)

    def _cells(self, points: Points) -> Ints:
        """Distinct (n, 3): channel, and row and column of a grid of windows."""
        cells = (points.at / self.scale).astype(np.int64) // self.spec.window
        return np.unique(np.c_[points.channel, cells], axis=0)


@dataclass(frozen=True, slots=True)
class _Class:
    """The points of a class, sorted by place; a place counts as its points' root."""

    at: Ints
    first: Ints
    count: Ints
    chance: npt.NDArray[np.float64]

    @classmethod
    def of(cls, points: Points) -> "_Class":
        order = np.argsort(points.place, kind="stable")
        _, first, count = np.unique(
            points.place[order], return_index=True, return_counts=True
        )
        chance = np.sqrt(count)
        return cls(points.at[order], first, count, chance / chance.sum())

    def sample(self, rng: np.random.Generator) -> Ints:
        place = rng.choice(len(self.first), p=self.chance)
        point: Ints = self.at[self.first[place] + rng.integers(self.count[place])]
        return point


def min_separation(spec: InputSpec) -> int:
    """Run pixels between two points whose windows see no ground in common."""
    extents = [
        spec.window if view.extent == "frame" else view.extent
        for view in spec.views.values()
    ]
    moved = any(view.off_centre for view in spec.views.values())
    return max(extents) + spec.window * (2 if moved else 1)


def _within(roi: Roi, chosen: tuple[Roi, ...] | None) -> npt.NDArray[np.bool_]:
    inside = np.full((roi.height, roi.width), chosen is None)
    for one in chosen or ():
        inside[one.intersect(roi).shift(-roi.y, -roi.x).slices] = True
    return inside


def _holds(roi: Roi, y: int, x: int) -> bool:
    return roi.contains(Roi(y, x, 1, 1))
