"""New model without trained weights, for training from corrections alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_uhrseg.engine.training.initial_weights import (
    RANDOM,
    EncoderStart,
    initial_network,
)
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.models.registry import REGISTRY, default_arguments
from napari_uhrseg.types import Card, Legend, Limits

RANDOM_INIT = f"from {RANDOM}"


def new_checkpoint(
    method: str,
    arguments: Mapping[str, Any] | None,
    legend: Legend,
    image: Image,
    encoder: str | None = None,
    *,
    pretrained: bool = True,
    limits: Limits | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Return an untrained checkpoint without a file, for `fine_tune`.

    Parameters
    ----------
    method, arguments
        Name in the registry, and arguments of its constructor; ``None``: the registry's
        ``first_arguments``, with the default encoder.
    legend
        Classes of the model, usually those of a store.
    image
        Image that decides the number of bands and the pixel size.
    encoder
        Name of the encoder; ``None``: that of the arguments.
    pretrained
        Load ImageNet weights if they are part of the package or available in time.
        Otherwise the card's ``trained_on`` is `RANDOM_INIT`.
    limits
        Time limit of the download; ``None``: the default.
    stop
        Polled several times per second during the download. If it returns True, the
        work ends.

    Raises
    ------
    CheckpointError
        If there is no class, or the model cannot be built.
    Cancelled
        If ``stop`` returned True.
    """
    if not len(legend):
        raise CheckpointError("There is no class to train.", "Name two classes.")
    known = _known_arguments(method, arguments, encoder, len(image.bands))
    start = EncoderStart(pretrained, download_s=(limits or Limits()).download_s)
    made = initial_network(method, known, legend, start, stop=stop)
    model = made.model
    # random heads would train the encoder on noise
    for part in model.training_only_modules:
        owner, _, name = part.rpartition(".")
        setattr(model.get_submodule(owner), name, None)
    model.spec = replace(model.spec, pixel_size=image.meters_per_pixel)
    card = Card(
        method,
        made.arguments,
        legend,
        model.spec,
        trained_on=_origin(made.encoder_weights),
        encoder_weights=made.encoder_weights,
    )
    return Checkpoint(model.eval(), card, UNSAVED_HASH, Path(f"{method}.safetensors"))


def _known_arguments(
    method: str, arguments: Mapping[str, Any] | None, encoder: str | None, bands: int
) -> dict[str, Any]:
    """Return the arguments of the network for an image of so many bands."""
    if arguments is None and method in REGISTRY:
        first = REGISTRY[method].first_arguments
        arguments = {**default_arguments(method), **first}
    known = {**(arguments or {}), **({"encoder": encoder} if encoder else {})}
    known.setdefault("channels", 1 if bands == 1 else 3)
    return known


def _origin(encoder_weights: str) -> str:
    return RANDOM_INIT if encoder_weights == RANDOM else "from ImageNet weights"
