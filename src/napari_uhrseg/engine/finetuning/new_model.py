"""New model without trained weights, for training from corrections alone."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_uhrseg.engine.cancellation import Cancelled
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.models.registry import REGISTRY, build
from napari_uhrseg.types import Card, Legend

if TYPE_CHECKING:
    from napari_uhrseg.models.base import Segmenter

DOWNLOAD_TIMEOUT_S = (
    30.0  # limit of the download in seconds; a connection may hang for minutes
)
RANDOM_INIT = "from random weights"


def new_checkpoint(
    method: str,
    arguments: Mapping[str, Any] | None,
    legend: Legend,
    image: Image,
    encoder: str | None = None,
    *,
    pretrained: bool = True,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Return an untrained checkpoint without a file, for `fine_tune`.

    Parameters
    ----------
    method, arguments
        Name in the registry, and arguments of its constructor; ``None``: the registry's
        ``first_arguments``.
    legend
        Classes of the model, usually those of a store.
    image
        Image that decides the number of bands and the pixel size.
    encoder
        Name of the encoder; ``None``: that of the arguments.
    pretrained
        Load ImageNet weights if they are available within half a minute. Otherwise the
        card's ``trained_on`` is `RANDOM_INIT`.
    seed
        Seed of the random weights.
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
        raise CheckpointError(
            "There is no class to train.", "Name at least two classes."
        )
    if arguments is None:
        entry = REGISTRY.get(method)
        arguments = {} if entry is None else entry.first_arguments
    known = {**arguments, **({"encoder": encoder} if encoder else {})}
    known.setdefault("channels", 1 if len(image.bands) == 1 else 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, started = build(method, known, legend), RANDOM_INIT
        torch.manual_seed(seed)
        taught = _pretrained(method, known, legend, stop) if pretrained else None
        if taught is not None:
            model, started = taught, "from ImageNet weights"
    for (
        part
    ) in model.training_only_modules:  # random heads would train the encoder on noise
        owner, _, name = part.rpartition(".")
        setattr(model.get_submodule(owner), name, None)
    model.spec = replace(model.spec, pixel_size=image.meters_per_pixel)
    card = Card(method, known, legend, model.spec, trained_on=started)
    return Checkpoint(model.eval(), card, UNSAVED_HASH, Path(f"{method}.safetensors"))


def _pretrained(
    method: str,
    known: Mapping[str, Any],
    legend: Legend,
    stop: Callable[[], bool],
) -> "Segmenter | None":
    """Return the model with ImageNet weights; None if they cannot be downloaded.

    The libraries' downloads have no time limit and cannot be interrupted. They
    therefore run in a thread. A thread that hangs ends with its connection.
    """
    made: list[Segmenter] = []
    failed: list[Exception] = []

    def fetch() -> None:
        try:
            made.append(build(method, {**known, "pretrained": True}, legend))
        except Exception as error:  # noqa: BLE001 - raised below, unless it is too late
            failed.append(error)

    thread = threading.Thread(target=fetch, name="uhrseg-weights", daemon=True)
    thread.start()
    until = time.monotonic() + DOWNLOAD_TIMEOUT_S
    while thread.is_alive() and time.monotonic() < until:
        if stop():
            raise Cancelled
        thread.join(0.1)
    if failed and not isinstance(failed[0], CheckpointError):
        raise failed[0]
    return made[0] if made else None  # no network, or no such weights
