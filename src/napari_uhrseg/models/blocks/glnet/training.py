"""Stages of GLNet's training, and its gradients from all patches of a frame.

The authors' code computes the loss of one group of patches at a time and adds the
gradients. A step's memory is therefore that of one group.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_uhrseg.models.blocks.common import statistics_kept
from napari_uhrseg.models.blocks.glnet.patches import Patches, Place
from napari_uhrseg.types import Stage

FRAMES = 6  # frames of a step in the authors' code
GROUP = 6  # patches of a group in the authors' code
ROUND = 454 / FRAMES  # steps of an epoch of DeepGlobe's training images
GLOBAL, LOCAL = ("resnet_global.", "fpn_global."), ("resnet_local.", "fpn_local.")
STAGES = (
    Stage(int(120 * ROUND), 5e-5, GLOBAL, "global"),
    Stage(int(50 * ROUND), 2e-5, (*LOCAL, "ensemble_conv."), "local"),
    Stage(int(120 * ROUND), 5e-5, (*GLOBAL, "ensemble_conv."), "both"),
)


def ensemble_weight(patches: Patches) -> int:
    """Return the weight of the ensemble's mean loss in the third stage.

    The authors' code adds the mean losses of all groups of six patches of a step's six
    frames, and the global branch's loss once: 36 to 1 for frames of 2448 pixels.
    """
    return FRAMES * math.ceil(len(patches.places(0)) / GROUP)


def choose_places(patches: Patches, frames: int, most: int | None) -> list[Place]:
    """Return the patches of a step, frame by frame.

    Parameters
    ----------
    patches
        The patches of each frame.
    frames
        Number of frames.
    most
        Random patches of each frame; ``None``: all of them, in order.
    """
    chosen: list[Place] = []
    for n in range(frames):
        places = patches.places(n)
        if most is not None:
            places = [places[i] for i in torch.randperm(len(places))[:most].tolist()]
        chosen += places
    return chosen


def in_groups(
    run: Callable[[list[Place]], Sequence[Tensor]],
    places: Sequence[Place],
    most: int,
    trained: nn.Module,
) -> list[list[Tensor]]:
    """Run a function on groups of patches and return its results for each group.

    With several groups, only the results are stored. The function runs again for the
    gradients.

    Parameters
    ----------
    run
        Function of the patches of a group.
    places
        Patches of all groups.
    most
        Largest number of patches in a group, at least 1. Sizes differ by at most one.
    trained
        Module whose batch norms update their statistics only once.
    """
    parts = [list(part) for part in _split(places, math.ceil(len(places) / most))]
    if len(parts) == 1:
        return [list(run(parts[0]))]

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), statistics_kept(trained)

    return [
        list(checkpoint(run, part, use_reentrant=False, context_fn=contexts))
        for part in parts
    ]


def _split(places: Sequence[Place], count: int) -> Iterator[Sequence[Place]]:
    ends = [round(len(places) * k / count) for k in range(count + 1)]
    for begin, end in pairwise(ends):
        yield places[begin:end]
