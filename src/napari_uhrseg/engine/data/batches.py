"""Augmented training batches.

Sample ``i`` of step ``s`` depends on the seed, ``s`` and ``i`` alone. An interrupted
training therefore continues with the same samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from napari_uhrseg.engine.data.augmentation import (
    DEFAULT_AUGMENTATIONS,
    Augmentation,
    Transform,
    draw_transforms,
)
from napari_uhrseg.engine.data.scenes import Dataset, Scene
from napari_uhrseg.engine.network.inputs import covered_region
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import InputSpec, Labels, Roi


def batches(
    source: Dataset,
    spec: InputSpec,
    size: int,
    seed: int,
    steps: Iterable[int],
    augmentations: Sequence[Augmentation] = DEFAULT_AUGMENTATIONS,
) -> Iterator[Batch]:
    """Yield one augmented batch with targets for each step.

    Parameters
    ----------
    source
        The data set, fitted to the model.
    spec
        Inputs of the model.
    size
        Samples in a batch, at least 1.
    seed
        Seed of all random numbers.
    steps
        Numbers of the steps, from 0. The same number gives the same batch.
    augmentations
        Augmentations of each sample, in the order in which they are drawn.

    Yields
    ------
    Batch
        ``size`` samples with targets, in main memory.
    """
    for step in steps:
        rngs = [np.random.default_rng((seed, step, i)) for i in range(size)]
        yield collate([augmented(source, spec, rng, augmentations) for rng in rngs])


def augmented(
    source: Dataset,
    spec: InputSpec,
    rng: np.random.Generator,
    augmentations: Sequence[Augmentation] = DEFAULT_AUGMENTATIONS,
) -> Batch:
    """Return one augmented window as a batch: its views and target.

    Parameters
    ----------
    source
        The data set, fitted to the model.
    spec
        Inputs of the model.
    rng
        Random number generator; it decides the window and its transforms.
    augmentations
        Augmentations of the window, in the order in which they are drawn.

    Returns
    -------
    Batch
        Views as `Scene.inputs` returns them, channels last in
        memory; int64 targets.
    """
    scene, window = source.sample(rng, spec.window)
    views = spec.views
    moved = [name for name, view in views.items() if view.off_centre]
    half = spec.window // 2
    shift = (0, 0)
    if moved:  # its centre may be anywhere in the window
        shift = int(rng.integers(-half, half + 1)), int(rng.integers(-half, half + 1))
    change = _Change(draw_transforms(augmentations, rng), spec)
    scene, window = zoomed(scene, window, change.zoom)
    batch = scene.inputs([window], spec, shift)
    around = covered_region(window, views[moved[0]]).shift(*shift) if moved else None
    return Batch(
        views={name: change.view(tensor) for name, tensor in batch.views.items()},
        boxes={
            name: change.boxes(found, batch.views[name].shape[-1])
            for name, found in batch.boxes.items()
        },
        target=change.labels(scene.labels(window)),
        surrounding_target=None
        if around is None
        else change.labels(scene.labels(around)),
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """Transforms of one window, applied to tensors with a first axis of one sample."""

    transforms: Sequence[Transform]
    spec: InputSpec

    @property
    def zoom(self) -> float:
        return prod(transform.zoom for transform in self.transforms)

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        bands = np.array(tensor[0].numpy(), order="C")  # arithmetic on rows of pixels
        for transform in self.transforms:
            bands = transform.view(bands, self.spec)
        bands_last = np.array(np.moveaxis(bands, 0, -1), order="C")
        return torch.from_numpy(bands_last).permute(2, 0, 1)[None]

    def labels(self, labels: Labels) -> torch.Tensor:
        for transform in self.transforms:
            labels = transform.labels(labels)
        return torch.from_numpy(labels.astype(np.int64)[None])

    def boxes(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        for transform in self.transforms:
            boxes = transform.boxes(boxes, size)
        return boxes


def zoomed(scene: Scene, window: Roi, zoom: float) -> tuple[Scene, Roi]:
    """Return a scene at another scale, and the window of the same size and centre.

    Parameters
    ----------
    scene
        The scene, fitted to the model.
    window
        Rectangle of the scene's run pixels.
    zoom
        Factor on the level-0 pixels per run pixel, above 0.

    Returns
    -------
    tuple[Scene, Roi]
        The scene, and the window in its run pixels. It is moved into the scene, as far
        as the scene is large enough.
    """
    if zoom == 1:
        return scene, window
    scene = replace(scene, scale=scene.scale * zoom)
    sides = window.height, window.width
    y, x = (
        min(max(0, round(centre / zoom - side / 2)), max(0, length - side))
        for centre, side, length in zip(window.center, sides, scene.shape, strict=True)
    )
    return scene, Roi(y, x, *sides)


def collate(parts: Sequence[Batch]) -> Batch:
    """Join batches of one window into one batch."""
    first = parts[0]
    targets, around = (
        [t for p in parts if (t := getattr(p, name)) is not None]
        for name in ("target", "surrounding_target")
    )
    return Batch(
        {k: torch.cat([p.views[k] for p in parts]) for k in first.views},
        {k: torch.cat([p.boxes[k] for p in parts]) for k in first.boxes},
        torch.cat(targets) if targets else None,
        torch.cat(around) if around else None,
    )
