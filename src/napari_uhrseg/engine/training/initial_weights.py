"""Networks before their first training step, and the weights of their encoders.

The weights come from the package, from the hub of a library, or from files. A hub is
contacted only for an encoder whose weights are not part of the package.
"""

import inspect
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_uhrseg.engine.cancellation import Cancelled
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.checkpoint import file_hash
from napari_uhrseg.models.encoder_weights import (
    is_shipped,
    load_encoder_file,
    load_shipped,
)
from napari_uhrseg.models.registry import DEFAULT_ENCODER, REGISTRY, build, model_class
from napari_uhrseg.types import Legend, Limits

RANDOM = "random weights"


@dataclass(frozen=True, slots=True)
class EncoderStart:
    """Choice of the weights that the encoders of a new network start from.

    Parameters
    ----------
    pretrained
        Load ImageNet weights.
    files
        Files of encoder weights; each is loaded into the encoders that it fits.
    falls_back
        If True, the default encoder replaces an encoder whose ImageNet weights are not
        available. If False, that encoder starts from random weights.
    download_s
        Seconds after which a download is given up.
    """

    pretrained: bool = True
    files: tuple[Path, ...] = ()
    falls_back: bool = False
    download_s: float = Limits().download_s


@dataclass(frozen=True, slots=True)
class InitialNetwork:
    """Network without training.

    Parameters
    ----------
    model
        The network in training mode.
    arguments
        Arguments of its constructor. The encoder may differ from the requested one.
    encoder_weights
        Weights that the encoders started from, as text for cards.
    warnings
        Messages to show to the user.
    """

    model: Segmenter
    arguments: Mapping[str, Any]
    encoder_weights: str
    warnings: tuple[str, ...] = ()


def initial_network(
    method: str,
    arguments: Mapping[str, Any],
    legend: Legend,
    start: EncoderStart,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> InitialNetwork:
    """Return a new network. The same arguments and weights give the same network.

    Parameters
    ----------
    method, arguments
        Name in the registry, and arguments of its constructor.
    legend
        Classes of the network.
    start
        Weights of the encoders.
    seed
        Seed of the random weights.
    stop
        Polled several times per second during a download. If it returns True, the work
        ends.

    Raises
    ------
    CheckpointError
        If the network cannot be built, or a file fits no encoder.
    Cancelled
        If ``stop`` returned True.
    """
    with torch.random.fork_rng(devices=[]):

        def made(**more: Any) -> Segmenter:
            torch.manual_seed(seed)
            return build(method, {**arguments, **more}, legend)

        model = made()
        loaded = [
            name for file in start.files for name in load_encoder_file(model, file)
        ]
        found = InitialNetwork(model, dict(arguments), RANDOM)
        if start.pretrained and not set(model.pretrained_modules) <= set(loaded):
            download = _Download(start.download_s, stop)
            found = _pretrained(found, method, made, start.falls_back, download)
            for file in start.files:
                load_encoder_file(found.model, file)
    return _described(found, start.files, loaded)


def _pretrained(
    random: InitialNetwork,
    method: str,
    made: Callable[..., Segmenter],
    falls_back: bool,
    download: "_Download",
) -> InitialNetwork:
    """Return a network with ImageNet weights, if they are available."""
    name = _encoder(method, random)
    if is_shipped(name):
        load_shipped(random.model)
        return InitialNetwork(random.model, random.arguments, _shipped_text(name))
    model, reason = download.run(lambda: made(pretrained=True))
    if model is not None:
        text = f"ImageNet weights of {name}"
        return InitialNetwork(model, random.arguments, text)
    if not falls_back or REGISTRY[method].encoder_family == "hrnet":
        warning = f"{reason} The encoder starts from random weights"
        return InitialNetwork(made(), random.arguments, RANDOM, (warning,))
    return _with_default_encoder(random, made, reason)


def _with_default_encoder(
    random: InitialNetwork, made: Callable[..., Segmenter], reason: str
) -> InitialNetwork:
    """Return a network with the shipped encoder, and a warning."""
    model = made(encoder=DEFAULT_ENCODER)
    load_shipped(model)
    return InitialNetwork(
        model,
        {**random.arguments, "encoder": DEFAULT_ENCODER},
        _shipped_text(DEFAULT_ENCODER),
        (
            f"{reason} The encoder {DEFAULT_ENCODER!r} replaces it, whose weights are "
            "part of the program. To train the requested encoder from random weights, "
            "add --no-pretrained",
        ),
    )


def _encoder(method: str, network: InitialNetwork) -> str:
    """Return the name of the encoder, which may be the default of a constructor."""
    named = network.arguments.get("encoder")
    if named is None:
        parameters = inspect.signature(model_class(method)).parameters
        named = parameters["encoder"].default if "encoder" in parameters else ""
    return str(named)


def _shipped_text(name: str) -> str:
    plain = name.removeprefix("tu-")
    return f"ImageNet weights of {plain} (part of napari-uhrseg; Apache-2.0)"


def _described(
    found: InitialNetwork, files: tuple[Path, ...], loaded: list[str]
) -> InitialNetwork:
    """Return the network with a text that names files and random light encoders."""
    main = set(found.model.pretrained_modules)
    texts = [] if files and main <= set(loaded) else [found.encoder_weights]
    texts += [f"weights of {Path(f).name} ({file_hash(Path(f))[:16]})" for f in files]
    light = set(found.model.light_encoders) - set(loaded)
    if light and texts != [RANDOM]:
        texts.append("light encoder from random weights")
    return InitialNetwork(
        found.model, found.arguments, "; ".join(texts), found.warnings
    )


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

    def run(self, build_model: Callable[[], Segmenter]) -> tuple[Segmenter | None, str]:
        """Return the model, or None and the reason why there are no weights."""
        made: list[Segmenter] = []
        failed: list[Exception] = []

        def fetch() -> None:
            try:
                made.append(build_model())
            except Exception as error:  # noqa: BLE001 - raised below, unless too late
                failed.append(error)

        thread = threading.Thread(target=fetch, name="uhrseg-weights", daemon=True)
        thread.start()
        self._wait_for(thread)
        if made:
            return made[0], ""
        if failed and not isinstance(failed[0], CheckpointError):
            raise failed[0]
        if failed and isinstance(failed[0], CheckpointError):
            return None, failed[0].message.rstrip(".") + "."
        seconds = f"{self.limit_s:g} seconds"
        return None, f"The ImageNet weights were not downloaded within {seconds}."

    def _wait_for(self, thread: threading.Thread) -> None:
        """Wait until the thread ends, at most for the limit."""
        until = time.monotonic() + self.limit_s
        while thread.is_alive() and time.monotonic() < until:
            if self.stop():
                raise Cancelled
            thread.join(0.1)
