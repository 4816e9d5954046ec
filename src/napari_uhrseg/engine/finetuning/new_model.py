"""New model without trained weights, for training from corrections alone."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_uhrseg.engine.cancellation import Cancelled
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.models.registry import REGISTRY, build
from napari_uhrseg.types import Card, Legend, Limits

if TYPE_CHECKING:
    from napari_uhrseg.models.base import Segmenter

RANDOM_INIT = "from random weights"
SEED = 0  # of the random weights


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
        ``first_arguments``.
    legend
        Classes of the model, usually those of a store.
    image
        Image that decides the number of bands and the pixel size.
    encoder
        Name of the encoder; ``None``: that of the arguments.
    pretrained
        Load ImageNet weights if they are available in time. Otherwise the card's
        ``trained_on`` is `RANDOM_INIT`.
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
    if arguments is None and (entry := REGISTRY.get(method)) is not None:
        arguments = entry.first_arguments
    known = {**(arguments or {}), **({"encoder": encoder} if encoder else {})}
    known.setdefault("channels", 1 if len(image.bands) == 1 else 3)
    download = _Download((limits or Limits()).download_s, stop) if pretrained else None
    model, started = _initial(method, known, legend, download)
    # random heads would train the encoder on noise
    for part in model.training_only_modules:
        owner, _, name = part.rpartition(".")
        setattr(model.get_submodule(owner), name, None)
    model.spec = replace(model.spec, pixel_size=image.meters_per_pixel)
    card = Card(method, known, legend, model.spec, trained_on=started)
    return Checkpoint(model.eval(), card, UNSAVED_HASH, Path(f"{method}.safetensors"))


def _initial(
    method: str,
    arguments: Mapping[str, Any],
    legend: Legend,
    download: "_Download | None",
) -> "tuple[Segmenter, str]":
    """Return a network that is always the same, and a description of its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build(method, arguments, legend)
        if download is not None:
            torch.manual_seed(SEED)
            known = {**arguments, "pretrained": True}
            loaded = download.run(lambda: build(method, known, legend))
            if loaded is not None:
                return loaded, "from ImageNet weights"
    return model, RANDOM_INIT


@dataclass(frozen=True, slots=True)
class _Download:
    """Wait for a model with ImageNet weights.

    The libraries' downloads have no time limit and cannot be interrupted. They
    therefore run in a thread. A thread that hangs ends with its connection.

    Parameters
    ----------
    limit_s
        Time limit in seconds.
    stop
        Polled several times per second. If it returns True, the work ends.
    """

    limit_s: float
    stop: Callable[[], bool]

    def run(self, build_model: "Callable[[], Segmenter]") -> "Segmenter | None":
        """Return the model; None if its weights cannot be downloaded in time."""
        made: list[Segmenter] = []
        failed: list[Exception] = []

        def fetch() -> None:
            try:
                made.append(build_model())
            except Exception as error:  # noqa: BLE001 - raised below, unless too late
                failed.append(error)

        thread = threading.Thread(target=fetch, name="uhrseg-weights", daemon=True)
        thread.start()
        until = time.monotonic() + self.limit_s
        while thread.is_alive() and time.monotonic() < until:
            if self.stop():
                raise Cancelled
            thread.join(0.1)
        if failed and not isinstance(failed[0], CheckpointError):
            raise failed[0]
        return made[0] if made else None  # no network, or no such weights
