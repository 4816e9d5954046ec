"""Samplers, which draw training windows from labelled scenes.

A new sampler is a class with the methods of `Sampler` and one line in `SAMPLERS`. The
names and shares of a data set's samplers belong to the identity of a training.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.scene import Scene, SparseTruth
from napari_uhrseg.types import IGNORED, Roi

CLASS_PIXEL_STEP = 8  # grid spacing in pixels at which class pixels are collected
MAX_DRAWS = 10  # draws after which a window without labels is accepted

PixelIndex = npt.NDArray[np.int64]
"""(n, 3) scene number, y and x in run pixels."""


class Sample(NamedTuple):
    """Training window and its scene."""

    scene: Scene
    window: Roi


class Sampler(Protocol):
    """Interface of the samplers of training windows."""

    def __init__(self, scenes: Sequence[Scene]) -> None: ...

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window of ``window`` run pixels a side, decided by ``rng`` alone."""


class UniformSampler:
    """Sampler of windows uniform over the area of all scenes."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = scenes
        areas = np.array([s.image.shape[0] * s.image.shape[1] for s in scenes])
        self._shares = areas / areas.sum()

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window; draw again if it has no label, up to `MAX_DRAWS` times."""
        for _ in range(MAX_DRAWS):
            scene = self._scenes[rng.choice(len(self._scenes), p=self._shares)]
            y, x = (int(rng.integers(0, max(0, n - window) + 1)) for n in scene.shape)
            roi = Roi(y, x, window, window)
            if (scene.labels(roi) != IGNORED).any():
                break
        return Sample(scene, roi)


class ClassBalancedSampler:
    """Sampler of windows around pixels of equally likely classes."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = scenes
        self._pixels = find_class_pixels(scenes)
        self._uniform = UniformSampler(scenes)

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a class, then one of its pixels, then a window that contains it."""
        if not self._pixels:  # no scene has a label
            return self._uniform.sample(rng, window)
        pixels = self._pixels[rng.integers(len(self._pixels))]
        number, *at = pixels[rng.integers(len(pixels))]
        scene = self._scenes[number]
        y, x = (
            min(max(0, int(p - rng.integers(window))), max(0, n - window))
            for p, n in zip(at, scene.shape, strict=True)
        )
        return Sample(scene, Roi(y, x, window, window))


SAMPLERS: Mapping[str, type[Sampler]] = {"class_balanced": ClassBalancedSampler}
"""Samplers by name that may draw a share of the windows; others are uniform."""


def find_class_pixels(scenes: Sequence[Scene]) -> tuple[PixelIndex, ...]:
    """Return pixels of each class that occurs.

    They are on a grid of `CLASS_PIXEL_STEP`; in sparse labels, they are its points.
    """
    found: dict[int, list[PixelIndex]] = {}
    for number, scene in enumerate(scenes):
        target = scene.target
        each = (
            _points(scene, target) if isinstance(target, SparseTruth) else _grid(scene)
        )
        for value, at in each:
            where = np.insert(at, 0, number, axis=1)
            found.setdefault(value, []).append(where)
    return tuple(np.concatenate(found[value]) for value in sorted(found))


def _grid(scene: Scene) -> Iterator[tuple[int, PixelIndex]]:
    """Yield class indices with their pixels, (n, 2) y and x, row by row of a grid."""
    step, half = CLASS_PIXEL_STEP, CLASS_PIXEL_STEP // 2
    height, width = scene.shape
    for y in range(half, height, step):
        row = scene.labels(Roi(y, 0, 1, width))[0, half::step]
        for value in np.unique(row[row != IGNORED]):
            x = np.nonzero(row == value)[0] * step + half
            yield int(value), np.stack((np.full_like(x, y), x), axis=1)


def _points(scene: Scene, target: SparseTruth) -> Iterator[tuple[int, PixelIndex]]:
    """Yield class indices with their pixels, (n, 2) y and x, of sparse labels."""
    points = target.points()
    at = np.minimum(points.at / scene.scale, np.array(scene.shape) - 1)
    for value in np.unique(points.channel).tolist():
        yield value, at[points.channel == value].astype(np.int64)
