"""Augmented training batches.

Sample ``i`` of step ``s`` depends on the seed, ``s`` and ``i`` alone. So a training
that was interrupted continues with the same samples.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from napari_uhrseg.engine.data.augmentation import ColorJitter, rotate, rotate_boxes
from napari_uhrseg.engine.data.scenes import Dataset
from napari_uhrseg.engine.network.inputs import covered_region
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import InputSpec, Roi


def batches(
    source: Dataset, spec: InputSpec, size: int, seed: int, steps: range
) -> Iterator[Batch]:
    """One augmented batch with targets a step; the source must be fitted."""
    for step in steps:
        yield collate(
            [augmented_sample(source, spec, seed, step, i) for i in range(size)]
        )


def augmented_sample(
    source: Dataset, spec: InputSpec, seed: int, step: int, index: int
) -> Batch:
    """One window with its views and target, flipped, turned and jittered.

    Views are as `engine.views.read_views` gives them, channels last in memory.
    """
    rng = np.random.default_rng((seed, step, index))
    scene, window = source.sample(rng, spec.window)
    views = spec.views
    moved = [name for name, view in views.items() if view.off_centre]
    half = spec.window // 2
    shift = (0, 0)
    if moved:  # its centre may be anywhere in the window
        shift = int(rng.integers(-half, half + 1)), int(rng.integers(-half, half + 1))
    batch = scene.inputs([window], spec, shift)
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    jitter = ColorJitter.random(rng)

    def changed(view: torch.Tensor) -> torch.Tensor:
        bands = np.array(view[0].numpy(), order="C")  # arithmetic on rows of pixels
        jitter(bands, spec)
        bands_last = rotate(np.moveaxis(bands, 0, -1), turns, flip)
        return torch.from_numpy(bands_last).permute(2, 0, 1)[None]

    def target(roi: Roi) -> torch.Tensor:
        labels = rotate(scene.labels(roi), turns, flip)
        return torch.from_numpy(labels.astype(np.int64)[None])

    around = covered_region(window, views[moved[0]]).shift(*shift) if moved else None
    return Batch(
        views={name: changed(view) for name, view in batch.views.items()},
        boxes={
            name: rotate_boxes(boxes, batch.views[name].shape[-1], turns, flip)
            for name, boxes in batch.boxes.items()
        },
        target=target(window),
        surrounding_target=None if around is None else target(around),
    )


def collate(parts: Sequence[Batch]) -> Batch:
    """Batches of one as one batch."""
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
