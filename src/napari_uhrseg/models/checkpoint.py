"""Checkpoints: one safetensors file with the card as JSON in its header.

Weights of two and more dimensions are stored as float16 by default. Vectors
(normalisation, biases) stay float32: they are small, and their range matters. Modules
that only training needs (``Segmenter.training_only_modules``) are left out. An
interrupted training resumes from its own state file, not from a checkpoint.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.allocation_limit import AllocationLimit
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.onnx.card import is_onnx
from napari_uhrseg.models.onnx.graph import read_graph
from napari_uhrseg.models.onnx.network import OnnxNetwork, network_hash
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card

__all__ = [
    "UNSAVED_HASH",
    "Checkpoint",
    "file_hash",
    "load_checkpoint",
    "read_card",
    "save_checkpoint",
    "state_mismatches",
]

UNSAVED_HASH = ""
"""Hash of a checkpoint without a file: an untrained network."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network in eval mode, with its card and its file.

    ``hash`` is the SHA-256 of the file, in hexadecimal.
    """

    model: Segmenter
    card: Card
    hash: str
    path: Path


def save_checkpoint(
    path: Path | str, model: Segmenter, card: Card, half: bool = True
) -> Path:
    """Write a checkpoint file atomically; an existing file is replaced.

    Parameters
    ----------
    path
        Path of the file; missing folders are created.
    model
        The network.
    card
        The card for the file's header.
    half
        Store weights of two and more dimensions as float16 if their range allows it.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    CheckpointError
        If the folder cannot be written, or weights are not finite.
    """
    path = Path(path)
    tensors = {
        name: _stored(name, tensor, half)
        for name, tensor in model.state_dict().items()
        if not _within(name, model.training_only_modules)
    }
    data = save(tensors, metadata={"card": json.dumps(card.to_dict())})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be written: {error.strerror or error}.",
            "Choose a folder you may write to, with room left.",
        ) from error
    return path


def load_checkpoint(path: Path | str, training: bool = False) -> Checkpoint:
    """Load a checkpoint: float32, channels last, in eval mode on the CPU.

    An ONNX network is loaded by onnxruntime. It cannot be trained.

    Parameters
    ----------
    path
        Path of the checkpoint file.
    training
        Keep the modules that only training needs. They have initial weights, because
        no file contains them.

    Returns
    -------
    Checkpoint
        The network with its card, hash and path.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or of another type, or its card, model and
        weights do not match. The message lists every missing or unknown key.
    """
    path = Path(path)
    card = read_card(path)
    if is_onnx(path):
        return _load_onnx(path, card)
    if "pretrained" in card.arguments or "classes" in card.arguments:
        raise CheckpointError(
            f"The card of {path.name} has arguments it must not have: "
            f"{dict(card.arguments)}.",
            "Get the file again from where it came from.",
        )
    with AllocationLimit(path.stat().st_size):
        model = build(card.model, card.arguments, card.legend)
    _take_spec(model, card, path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read: {error}.",
            "Get the file again from where it came from.",
        ) from error
    _load(model, tensors, path)
    if not training:
        for part in model.training_only_modules:
            owner, _, name = part.rpartition(".")
            setattr(model.get_submodule(owner), name, None)
    model.eval().to(memory_format=torch.channels_last)
    return Checkpoint(model, card, file_hash(path), path)


def state_mismatches(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> list[str]:
    """Return messages that name every key in which two state_dicts differ."""
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        f"{k} is {tuple(found[k].shape)}, not {tuple(expected[k].shape)}"
        for k in sorted(expected.keys() & found.keys())
        if found[k].shape != expected[k].shape
    ]
    return [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", wrong),
        )
        if names
    ]


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    if not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"The weights {name!r} are not finite: the training went wrong.",
            "Train again with a smaller learning rate.",
        )
    short = tensor.to(torch.float16)
    fits = half and tensor.ndim >= 2 and bool(torch.isfinite(short).all())
    return short if fits else tensor.to(torch.float32)


def _within(name: str, parts: Iterable[str]) -> bool:
    return any(name.startswith(f"{part}.") for part in parts)


def _take_spec(model: Segmenter, card: Card, path: Path) -> None:
    """Set the card's input spec after checking it against the arguments."""
    for what in ("views", "window", "channels", "divisor"):
        made, said = getattr(model.spec, what), getattr(card.spec, what)
        if made != said:
            raise CheckpointError(
                f"The card of {path.name} contradicts itself: its {what} is {said}, "
                f"its arguments make {made}.",
                "Get the file again from where it came from.",
            )
    model.spec = card.spec


def _load(model: Segmenter, tensors: dict[str, Tensor], path: Path) -> None:
    """Load the weights after checking every key, shape and value."""
    own = model.state_dict()
    expected = {
        k: v for k, v in own.items() if not _within(k, model.training_only_modules)
    }
    problems = state_mismatches(expected, tensors)
    if problems:
        raise CheckpointError(
            f"The weights in {path.name} do not fit its card. {'; '.join(problems)}.",
            "It was made by another version, or its card was changed.",
        )
    bad = [k for k, v in tensors.items() if not bool(torch.isfinite(v).all())]
    if bad:
        raise CheckpointError(
            f"{path.name} holds weights that are not finite: {', '.join(bad)}.",
            "Get the file again from where it came from.",
        )
    model.load_state_dict({**own, **tensors})


def _load_onnx(path: Path, card: Card) -> Checkpoint:
    graph = read_graph(path)
    model = OnnxNetwork(path, graph, card).eval()
    return Checkpoint(model, card, network_hash(graph, card), path)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; it identifies a checkpoint.

    That of an ONNX network includes its card and the files of its weights.
    """
    if is_onnx(path):
        return network_hash(read_graph(path), read_card(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
