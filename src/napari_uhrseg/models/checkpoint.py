"""Checkpoints: one safetensors file, the card as JSON in its header.

Weights of two and more dimensions are stored as float16 unless asked otherwise;
vectors (normalisation, biases) stay float32: small, and their range matters. What
only training needs (``Segmenter.training_only_modules``) is left out: an interrupted
training resumes from its own state file, not from a checkpoint.
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
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.card_header import read_card
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
"""The hash of a checkpoint that is in no file: an untrained network."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network ready to run (in eval mode), and where it is from.

    ``hash`` is the SHA-256 of the file, in hexadecimal.
    """

    model: Segmenter
    card: Card
    hash: str
    path: Path


def save_checkpoint(
    path: Path | str, model: Segmenter, card: Card, half: bool = True
) -> Path:
    """Write the file whole or not at all; replaces one that is there.

    Raises
    ------
    CheckpointError
        The folder cannot be written, or weights are not finite.
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
    """The network of the file, in eval mode on the CPU, in float32, channels last.

    Parameters
    ----------
    training
        Keep the parts that only training needs; they start new, as no file has them.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, of another kind, or its card, its model and
        its weights do not fit together; every key that is missing or unknown is
        listed.
    """
    path = Path(path)
    card = read_card(path)
    if "pretrained" in card.arguments or "classes" in card.arguments:
        raise CheckpointError(
            f"The card of {path.name} has arguments it must not have: "
            f"{dict(card.arguments)}.",
            "Get the file again from where it came from.",
        )
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
    """The card's input spec, if it agrees with what the arguments make."""
    for what in ("views", "window", "channels", "divisor", "frame"):
        made, said = getattr(model.spec, what), getattr(card.spec, what)
        if made != said:
            raise CheckpointError(
                f"The card of {path.name} contradicts itself: its {what} is {said}, "
                f"its arguments make {made}.",
                "Get the file again from where it came from.",
            )
    model.spec = card.spec


def _load(model: Segmenter, tensors: dict[str, Tensor], path: Path) -> None:
    """Every key accounted for, in number and shape."""
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


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal: what a checkpoint is known by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
