"""A network that has learnt nothing yet, to be taught by strokes alone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.io.image import Image
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, Legend

NEW = ""
"""The hash of a checkpoint that is in no file: it has learnt nothing."""


def fresh(
    method: str,
    arguments: Mapping[str, Any],
    legend: Legend,
    image: Image,
    encoder: str | None = None,
    *,
    pretrained: bool = True,
    seed: int = 0,
) -> Checkpoint:
    """A checkpoint without a file, for `fine_tune`: the method untaught.

    Parameters
    ----------
    method, arguments
        Name in the registry, and arguments of its constructor.
    legend
        Its classes; a store's, as a rule.
    image
        Gives bands and pixel size.
    encoder
        In place of the arguments'.
    pretrained
        Start from ImageNet weights where they can be had; the card says which.
    seed
        Of the random weights.

    Raises
    ------
    CheckpointError
        There is no class, or the model cannot be built.
    """
    if not len(legend):
        raise CheckpointError("There is no class to learn.", "Name two at least.")
    known = {**arguments, **({"encoder": encoder} if encoder else {})}
    known.setdefault("channels", 1 if len(image.bands) == 1 else 3)
    model = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained:
            try:
                model = build(method, {**known, "pretrained": True}, legend)
            except CheckpointError:  # no network, or no such weights
                torch.manual_seed(seed)
        started = "random weights" if model is None else "ImageNet weights"
        model = model or build(method, known, legend)
    for part in model.training_only:  # random heads would teach the encoder noise
        owner, _, name = part.rpartition(".")
        setattr(model.get_submodule(owner), name, None)
    model.spec = replace(model.spec, pixel_size=image.meters_per_pixel)
    card = Card(method, known, legend, model.spec, trained_on=f"from {started}")
    return Checkpoint(model.eval(), card, NEW, Path(f"{method}.safetensors"))
