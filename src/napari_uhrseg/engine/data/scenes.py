"""Data sets of labelled scenes, split into training and validation scenes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from napari_uhrseg.engine.data.samplers import (
    SAMPLERS,
    Sample,
    Sampler,
    UniformSampler,
)
from napari_uhrseg.engine.data.scene import GroundTruth, Scene
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.types import InputSpec, Legend
from napari_uhrseg.units import MB, quoted

__all__ = ["SCENE_CACHE", "Dataset", "GroundTruth", "Sample", "Scene", "SceneDataset"]

SCENE_CACHE = 1024 * MB  # for decoded scenes; the others are read as needed


class Dataset(Protocol):
    """Interface of data sets: training windows and separate validation scenes."""

    @property
    def legend(self) -> Legend:
        """Classes; class k of the network is the k-th."""

    @property
    def held_out(self) -> Sequence[Scene]:
        """Scenes for validation, which training never samples; may be empty."""

    def fitted(self, spec: InputSpec) -> "Dataset":
        """Return the data set with its scenes fitted to a model."""

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a training window, decided by ``rng`` alone."""


@dataclass(frozen=True)
class SceneDataset:
    """Data set of whole scenes for training and whole scenes for validation.

    Parameters
    ----------
    legend
        Classes; class k of the network is the k-th.
    training, held_out
        Scenes for training and scenes for validation.
    sampling
        Share of the windows that each sampler of `SAMPLERS` draws, 0 to 1. The
        remaining windows are uniform over the scenes.
    cached_bytes
        Bytes of images and masks that are decoded in memory.
    pixel_counts
        Labelled level-0 pixels of each class by scene name; empty: not counted.
    warnings
        Messages for the user about the data.

    Raises
    ------
    TrainingError
        If there is no training scene, or the shares are not possible.
    """

    legend: Legend
    training: tuple[Scene, ...]
    held_out: tuple[Scene, ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)
    cached_bytes: int = 0
    pixel_counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    _uniform: UniformSampler = field(init=False, repr=False, compare=False)
    _samplers: Mapping[str, Sampler] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.training:
            raise TrainingError(
                "There is no training scene.", "Use fewer scenes for validation."
            )
        shares = self.sampling.values()
        if not all(0 <= share <= 1 for share in shares) or sum(shares) > 1:
            listed = ", ".join(f"{share:g}" for share in shares)
            raise TrainingError(
                f"A share of {listed} windows is impossible.", "Choose 0 to 1."
            )
        chosen = {k: SAMPLERS[k](self.training) for k, v in self.sampling.items() if v}
        object.__setattr__(self, "_uniform", UniformSampler(self.training))
        object.__setattr__(self, "_samplers", chosen)

    def with_class_balance(self, share: float) -> "SceneDataset":
        """Return the same scenes with a share of the windows drawn class by class."""
        return self._with(sampling={"class_balanced": share})

    def fitted(self, spec: InputSpec) -> "SceneDataset":
        """Return the data set with its scenes fitted to a model."""
        return self._with(
            training=tuple(s.fitted(spec) for s in self.training),
            held_out=tuple(s.fitted(spec) for s in self.held_out),
        )

    def _with(self, **changes: Any) -> "SceneDataset":
        """Return a changed copy; subclasses have other constructors."""
        known = {f.name: getattr(self, f.name) for f in fields(SceneDataset) if f.init}
        return SceneDataset(**{**known, **changes})

    def crop_size(self, spec: InputSpec) -> int:
        """Return the side in run pixels of training windows; for fitted scenes.

        For a model that works on frames, the side is at most the median of the scenes'
        shorter sides. Inference labels an image that is smaller than a frame without
        padding, so the overview of a padded frame would have another scale.
        """
        if spec.frame is None:
            return spec.window
        typical = int(np.median([min(scene.shape) for scene in self.training]))
        side = min(spec.window, typical)
        return max(spec.min_side, side // spec.divisor * spec.divisor)

    def sample(self, rng: np.random.Generator, window: int) -> Sample:
        """Draw a window of a training scene."""
        if self._samplers:
            chance = rng.random()
            for name, sampler in self._samplers.items():
                if chance < self.sampling[name]:
                    return sampler.sample(rng, window)
                chance -= self.sampling[name]
        return self._uniform.sample(rng, window)


def held_out_names(
    names: Sequence[str], wanted: float | Collection[str], seed: int
) -> set[str]:
    """Return the names of the scenes for validation.

    Parameters
    ----------
    names
        Names of all scenes.
    wanted
        Names of the scenes for validation, or their share, 0 to 1 (0: none). A share
        is at least one scene and not all of them; of one scene it is none.
    seed
        Seed that selects the scenes for a share.

    Raises
    ------
    TrainingError
        If a name is unknown.
    """
    if not isinstance(wanted, int | float):
        unknown = sorted(set(wanted) - set(names))
        if unknown:
            raise TrainingError(
                f"There is no scene named {quoted(unknown)} to hold out.",
                f"There are: {quoted(names)}.",
            )
        return set(wanted)
    if wanted <= 0 or len(names) < 2:
        return set()
    count = min(len(names) - 1, max(1, round(wanted * len(names))))
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[i] for i in order[:count]}
