"""Data set of the corrections of several images.

With at least `MIN_IMAGES` images with corrections, whole images are held out for
validation. With fewer, a fifth of the sites of all images is held out.
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.correction_sites import MIN_SITES, Ints, Points
from napari_uhrseg.engine.data.scenes import Sample, Scene
from napari_uhrseg.engine.finetuning.correction_dataset import (
    REPLAY_FRACTION,
    CorrectionDataset,
)
from napari_uhrseg.engine.finetuning.validation_split import (
    choose_held_out,
    site_positions,
)
from napari_uhrseg.types import InputSpec, Legend

MIN_IMAGES = 3  # with corrections, for validation on whole images
MAX_SQUARES = 1 << 22  # squares of the labelled area of all images that are kept


class CorrectionCollection:
    """Windows around corrected pixels of several images, balanced over the classes.

    The members are those of `CorrectionDataset`.

    Parameters
    ----------
    parts
        Data sets of the images, with one legend.
    seed
        Seed of the choice of validation images or sites.

    Attributes
    ----------
    by_image
        True if whole images are held out.
    """

    def __init__(self, parts: Sequence[CorrectionDataset], seed: int = 0) -> None:
        self.parts = tuple(parts)
        first = self.parts[0]
        for part in self.parts:
            part.thin_labelled(MAX_SQUARES // len(self.parts))
        self.legend: Legend = first.legend
        self.merged = first.merged
        self.spec: InputSpec = first.spec
        self.splits = first.splits
        self.by_image = len(self.parts) >= MIN_IMAGES
        if self.splits:
            self._split(seed)
        self._training = [p for p in self.parts if len(p.training)]
        self._classes = sorted({k for p in self._training for k in p.class_sites})

    def _split(self, seed: int) -> None:
        """Hold out images, or sites of all images."""
        counts = [p.sites.count for p in self.parts]
        first = [0, *accumulate(counts)]
        if self.by_image:
            sites = [np.full(len(p.points), n + 1) for n, p in enumerate(self.parts)]
            names = [f"{p.names[0]} {p.scene.image.fingerprint}" for p in self.parts]
            points = _pooled(self.parts, sites)
            held = choose_held_out(points, len(self.parts), seed, MIN_IMAGES, names)
            for n, part in enumerate(self.parts):
                part.hold_out(np.full(part.sites.count + 1, held[n + 1]))
            return
        sites = [
            p.points.site + start for p, start in zip(self.parts, first, strict=False)
        ]
        names = [
            f"{p.names[0]} {where}"
            for p in self.parts
            for where in site_positions(p.points, p.sites.count)
        ]
        points = _pooled(self.parts, sites)
        held = choose_held_out(points, first[-1], seed, MIN_SITES, names)
        for part, start in zip(self.parts, first, strict=False):
            part.hold_out(np.r_[False, held[start + 1 : start + part.sites.count + 1]])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for p in self.parts for name in p.names)

    @property
    def has_validation(self) -> bool:
        return any(p.has_validation for p in self.parts)

    @property
    def disjoint(self) -> bool:
        return self.by_image or all(p.disjoint for p in self.parts)

    @property
    def site_count(self) -> int:
        return sum(p.site_count for p in self.parts)

    @property
    def windows(self) -> Ints:
        """(n, 4) channels, rows and columns of windows, and the number of the image."""
        return np.concatenate(
            [np.c_[p.windows, np.full(len(p.windows), n)]
             for n, p in enumerate(self.parts)]
        )  # fmt: skip

    @property
    def training_samples(self) -> list[Sample]:
        return [s for p in self.parts for s in p.training_samples]

    @property
    def held_out_samples(self) -> list[Sample]:
        return [s for p in self.parts for s in p.held_out_samples]

    @property
    def replay_samples(self) -> list[Sample]:
        """Windows of the labelled area of the training images, with their scene."""
        return [s for p in self._training for s in p.replay_samples]

    @property
    def held_out(self) -> Sequence[Scene]:
        return [scene for p in self.parts for scene in p.held_out]

    def fitted(self, spec: InputSpec) -> "CorrectionCollection":
        """Return itself, as it is created for a model."""
        return self

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window around a correction, or in the labelled area of an image.

        Validation images are not drawn.
        """
        if self.splits and rng.random() < REPLAY_FRACTION:
            part = self._training[rng.integers(len(self._training))]
            return part.sample_labelled(rng, window)
        return self.sample_corrected(rng, window)

    def sample_corrected(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window around a corrected pixel; class, image and site come first.

        The chance of an image is proportional to the sites that it has of the class.
        """
        channel = self._classes[rng.integers(len(self._classes))]
        parts = [p for p in self._training if channel in p.class_sites]
        weights = np.array([p.class_sites[channel] for p in parts], np.float64)
        part = parts[rng.choice(len(parts), p=weights / weights.sum())]
        return part.sample_class(rng, window, channel)

    def fingerprint(self) -> str:
        """Return a hash of the points and windows of all images."""
        found = hashlib.sha256()
        for part in self.parts:
            found.update(part.fingerprint().encode())
        return found.hexdigest()


def _pooled(
    parts: Sequence[CorrectionDataset], sites: Sequence[npt.NDArray[np.int64]]
) -> Points:
    """Return the points of all parts with the given sites."""
    return Points(
        np.concatenate([p.points.at for p in parts]),
        np.concatenate([p.points.channel for p in parts]),
        np.concatenate(sites).astype(np.int64),
    )


CorrectionSource = CorrectionDataset | CorrectionCollection
