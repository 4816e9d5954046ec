"""Data set of corrected pixels, split by site into training and validation.

::

    coarse correction level    gives the locations of corrections
    points                     corrected pixels of a finer level, limited in number;
                               windows are drawn around them
    sites                      groups of points that are a window apart
    validation                 a fifth of the sites; the others are for training
    replay                     a third of the windows lies anywhere in the labelled
                               area, to preserve previous predictions
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.correction_sites import (
    Ints,
    Points,
    SiteGrid,
    find_points,
    find_sites,
    labelled_squares,
    thinned,
)
from napari_uhrseg.engine.data.scenes import Sample, Scene
from napari_uhrseg.engine.finetuning.class_mapping import ClassMapping
from napari_uhrseg.engine.finetuning.validation_split import choose_held_out
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import (
    HELD_OUT,
    IGNORED,
    InputSpec,
    Labels,
    Legend,
    Roi,
    ValueRange,
)

REPLAY_FRACTION = 1 / 3  # of the training windows, anywhere in the labelled area
REPLAY_PIXELS = 1 << 20  # run pixels that measure the changes elsewhere


@dataclass(frozen=True, slots=True)
class CorrectionTargets:
    """Ground truth from the corrections of some sites, read as needed.

    Parameters
    ----------
    store
        The labels.
    channels
        (256,) uint8 channel of each class id, 255: none.
    sites
        Sites of the corrections.
    asked, hidden
        (sites + 1,) bool by site number: True if its pixels are returned, and True if
        they are returned as `HELD_OUT`.
    chosen
        Level-0 rectangles to which corrections are limited; ``None``: the whole image.
    """

    store: LabelStore
    channels: npt.NDArray[np.uint8]
    sites: SiteGrid
    asked: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    chosen: tuple[Roi, ...] | None

    def read(self, roi: Roi) -> Labels:
        """Return (h, w) uint8 channels; 255: not corrected, `HELD_OUT`: hidden."""
        found = np.full((roi.height, roi.width), IGNORED, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self.store.shape))
        if not inside.area:
            return found
        known = self.channels[read_array(self.store.correction[0], inside.slices)]
        if (known != IGNORED).any():
            site = self.sites.of(inside)
            secret = self.hidden[site] & (known != IGNORED)
            known[~self.asked[site] | ~_within(inside, self.chosen)] = IGNORED
            known[secret] = HELD_OUT
        found[inside.shift(-roi.y, -roi.x).slices] = known
        return found


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Bands, value range and scale with which a network reads an image."""

    bands: tuple[int, ...]
    value_range: ValueRange
    scale: float


class CorrectionDataset:
    """Windows around corrected pixels, balanced over classes and sites.

    Parameters
    ----------
    image
        The image that was corrected.
    how
        Bands, value range and scale with which it is read.
    store
        The labels with the corrections.
    match
        Channels of the classes.
    spec
        Inputs of the model.
    seed
        Seed of the choice of held-out sites.
    chosen
        Level-0 rectangles to train on; ``None``: all corrections.
    splits
        If True, hold out sites for validation if there are enough.

    Attributes
    ----------
    training_windows, held_out_windows
        Windows with corrections for training and for validation, in run pixels.
    replay_windows
        Windows of the labelled area, corrected or not, in run pixels.
    has_validation
        True if sites are held out for validation.
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
        self.sites = find_sites(
            store, spec.window * how.scale, min_separation(spec) * how.scale
        )
        points = find_points(store, match.channels, self.sites)
        if chosen is not None:
            inside = [any(_holds(r, y, x) for r in chosen) for y, x in points.at]
            points = points.where(np.array(inside, bool))
        self.splits, self._points = splits, points
        self._targets = store, match.channels, self.sites
        self._chosen, self._scene = chosen, (image, how)
        self._labelled, self._square = labelled_squares(store)
        held = np.zeros(self.sites.count + 1, bool)
        if splits:
            held = choose_held_out(points, self.sites.count, seed)
        self.hold_out(held)

    def hold_out(self, validation: npt.NDArray[np.bool_]) -> None:
        """Split the corrections: hold out the sites that are True by their number.

        The scenes and windows of the data set are replaced.

        Parameters
        ----------
        validation
            (sites + 1,) bool.
        """
        points, chosen = self._points, self._chosen
        self.has_validation = bool(validation[points.site].any())
        taken = validation[points.site]
        self.training, self.tested = points.where(~taken), points.where(taken)
        shown = CorrectionTargets(*self._targets, ~validation, validation, chosen)
        tested = CorrectionTargets(
            *self._targets, validation, np.zeros_like(validation), chosen
        )
        image, how = self._scene
        self.scene, self.held_scene = (
            Scene(image.name, image, t, how.bands, how.value_range, how.scale)
            for t in (shown, tested)
        )
        self.windows = self._cells(self.training)
        self.training_windows = self._squares(self.windows)
        self.held_out_windows = self._squares(self._cells(self.tested))
        self._classes = {
            k: _Class.of(self.training.where(self.training.channel == k))
            for k in np.unique(self.training.channel).tolist()
        }

    @property
    def parts(self) -> "tuple[CorrectionDataset, ...]":
        """The data set of each image: this one."""
        return (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images."""
        return (self.scene.name,)

    @property
    def disjoint(self) -> bool:
        """True if no window of one site contains pixels of another site."""
        return self.sites.disjoint

    @property
    def points(self) -> Points:
        """All corrected pixels, for training and validation."""
        return self._points

    @property
    def training_samples(self) -> list[Sample]:
        """Windows with corrections for training, with their scene."""
        return [Sample(self.scene, window) for window in self.training_windows]

    @property
    def held_out_samples(self) -> list[Sample]:
        """Windows with corrections for validation, with their scene."""
        return [Sample(self.held_scene, window) for window in self.held_out_windows]

    @property
    def replay_samples(self) -> list[Sample]:
        """Windows of the labelled area, with their scene."""
        return [Sample(self.scene, window) for window in self.replay_windows]

    @property
    def held_out(self) -> Sequence[Scene]:
        return (self.held_scene,) if self.has_validation else ()

    @property
    def site_count(self) -> int:
        return len(np.unique(np.r_[self.training.site, self.tested.site]))

    def fitted(self, spec: InputSpec) -> "CorrectionDataset":
        """Return itself, as it is created for a model."""
        return self

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window around a correction, or anywhere in the labelled area (replay).

        A replay window may contain pixels of validation sites, but not their labels.
        """
        if self.splits and rng.random() < REPLAY_FRACTION:
            return self.sample_labelled(rng, window)
        return self.sample_corrected(rng, window)

    def thin_labelled(self, most: int) -> None:
        """Keep at most ``most`` squares of the labelled area, evenly spaced."""
        self._labelled = thinned(self._labelled, most)

    def sample_labelled(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window anywhere in the labelled area."""
        corner = self._labelled[rng.integers(len(self._labelled))]
        point = (corner + rng.integers(self._square, size=2)) / self.scale
        y, x = (int(p) - window // 2 for p in point)
        return Sample(self.scene, self._inside(Roi(y, x, window, window)))

    def sample_corrected(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window around a corrected pixel; class and site are drawn first."""
        channels = list(self._classes)
        return self.sample_class(rng, window, channels[rng.integers(len(channels))])

    def sample_class(
        self, rng: np.random.Generator, window: int, channel: int
    ) -> Sample:
        """Draw a window around a corrected pixel of a class.

        Parameters
        ----------
        rng
            Random number generator.
        window
            Side of the window in run pixels.
        channel
            Channel of the class, one of `class_sites`.
        """
        point = self._classes[channel].sample(rng) / self.scale
        y, x = (int(p - rng.integers(window)) for p in point)
        return Sample(self.scene, self._inside(Roi(y, x, window, window)))

    @property
    def class_sites(self) -> dict[int, int]:
        """Channel of each class with training data to the number of its sites."""
        return {k: len(of_class.first) for k, of_class in self._classes.items()}

    @property
    def replay_windows(self) -> list[Roi]:
        side = self.spec.window
        count = min(max(4, REPLAY_PIXELS // side**2), 16, len(self._labelled))
        chosen = np.linspace(0, len(self._labelled) - 1, count).round().astype(int)
        middles = (self._labelled[chosen] + self._square // 2) / self.scale
        return [
            self._inside(Roi(int(y) - side // 2, int(x) - side // 2, side, side))
            for y, x in middles
        ]

    def fingerprint(self) -> str:
        """Return a hash of the points and windows."""
        found = hashlib.sha256()
        for points in (self.training, self.tested):
            for array in (points.at, points.channel, points.site):
                found.update(np.ascontiguousarray(array).tobytes())
        found.update(self._labelled.tobytes())
        found.update(repr(self.held_out_windows).encode())
        return found.hexdigest()

    def _squares(self, cells: Ints) -> list[Roi]:
        """Return the distinct windows of `_cells`, in run pixels."""
        side = self.spec.window
        return [
            self._inside(Roi(y * side, x * side, side, side))
            for y, x in np.unique(cells[:, 1:], axis=0).tolist()
        ]

    def _inside(self, window: Roi) -> Roi:
        """Return the window moved into the image as far as possible."""
        height, width = self.scene.shape
        y = min(max(0, window.y), max(0, height - window.height))
        x = min(max(0, window.x), max(0, width - window.width))
        return Roi(y, x, window.height, window.width)

    def _cells(self, points: Points) -> Ints:
        """Return distinct (n, 3) channels, rows and columns of a grid of windows."""
        cells = (points.at / self.scale).astype(np.int64) // self.spec.window
        return np.unique(np.c_[points.channel, cells], axis=0)


@dataclass(frozen=True, slots=True)
class _Class:
    """Points of a class, sorted by site; a site's weight is the root of its points."""

    at: Ints
    first: Ints
    count: Ints
    chance: npt.NDArray[np.float64]

    @classmethod
    def of(cls, points: Points) -> "_Class":
        order = np.argsort(points.site, kind="stable")
        _, first, count = np.unique(
            points.site[order], return_index=True, return_counts=True
        )
        chance = np.sqrt(count)
        return cls(points.at[order], first, count, chance / chance.sum())

    def sample(self, rng: np.random.Generator) -> Ints:
        site = rng.choice(len(self.first), p=self.chance)
        point: Ints = self.at[self.first[site] + rng.integers(self.count[site])]
        return point


def min_separation(spec: InputSpec) -> int:
    """Return the run pixels between two points whose windows share no pixel."""
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
