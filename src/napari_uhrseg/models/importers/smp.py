"""Import of segmentation-models-pytorch folders and hub names as ``plain`` checkpoints.

``model.save_pretrained(folder)`` writes ``config.json``, the arguments of the network's
class, and ``model.safetensors``. A name on the Hugging Face hub is such a folder.

A model with one channel estimates the probability of the foreground as the sigmoid of
its output z. The import makes it a model of two classes with the outputs 0 and z: the
last convolution gets a first channel of zeros. softmax([0, z])[1] is sigmoid(z), so the
label is the same as with a threshold of one half.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.allocation_limit import AllocationLimit
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.blocks.smp_network import ARCHITECTURES, fitting_window
from napari_uhrseg.models.importers.weights_file import (
    State,
    chosen_legend,
    fill,
    read_state,
    strip_prefix,
)
from napari_uhrseg.models.importers.weights_kind import kind_of
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, InputSpec, LabelClass, Legend
from napari_uhrseg.units import formatted

TITLE = "segmentation-models-pytorch's network"
LAST = "segmentation_head.0.weight"  # key of the last convolution
MAX_CLASSES = 255  # of a label store
FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
BINARY = Legend(
    (
        LabelClass(1, "background", "#404040", 0),
        LabelClass(2, "foreground", "#ffb000", 1),
    )
)
LINEAR = (None, "identity", "softmax", "softmax2d", "logsoftmax")
# the library's other own encoders were trained with ImageNet's mean and deviation
OTHERWISE_NORMALISED = ("dpn", "inception", "xception")


def import_smp(
    source: Path | str, legend: Legend | None = None, window: int | None = None
) -> tuple[Segmenter, Card]:
    """Return a ``plain`` model with the weights of a folder or hub name, and its card.

    Parameters
    ----------
    source
        The folder, a file in it, or ``owner/name`` on the Hugging Face hub, which is
        downloaded unless it is in the hub's cache. ``owner/name@revision`` selects a
        revision (a commit, tag or branch); the card contains the commit.
    legend
        Classes in the order of the outputs, two for a model with one channel. ``None``:
        background and foreground for one channel, otherwise numbered classes.
    window
        Side of the windows in pixels; ``None``: about 512.

    Raises
    ------
    CheckpointError
        If the folder, its configuration or its weights are missing, damaged or of an
        unsupported network, or the hub cannot be reached.
    """
    config_path, weights_path, name, origin = _find(source)
    network = _parse_config(_read_config(config_path), name)
    if legend is None and network.classes == 1:
        legend = BINARY
    legend = chosen_legend(legend, max(2, network.classes), deepglobe=False)
    with AllocationLimit(weights_path.stat().st_size):
        arguments = network.arguments(window)
        model = build("plain", arguments, legend)
    weights = strip_prefix(_read_weights(weights_path), LAST)
    state = {f"net.{k}": v for k, v in weights.items()}
    if network.classes == 1:
        state = _two_channels(state, model.state_dict())
    # the second head classifies whole images and is not used
    unused = "net.classification_head." if network.with_labels else ""
    fill(model, state, TITLE, unused)
    model.spec = _normalised(model.spec, network.encoder, network.pretrained)
    card = Card(
        model="plain",
        arguments=arguments,
        legend=legend,
        spec=model.spec,
        name=name,
        source=origin,
        licence="segmentation-models-pytorch: MIT; weights: as their authors state",
        citation="P. Iakubovskii, Segmentation Models Pytorch, GitHub, 2019",
    )
    return model, card


@dataclass(frozen=True, slots=True)
class _Network:
    """Network that a configuration describes.

    ``classes`` is the number of output channels. ``pretrained`` names the weights that
    the encoder started from. ``with_labels`` is True if there is a second head.
    """

    architecture: str
    encoder: str
    channels: int
    classes: int
    pretrained: object
    with_labels: bool
    options: dict[str, Any]

    def arguments(self, window: int | None) -> dict[str, Any]:
        """Return the arguments of ``plain``; ``window`` is in pixels, or ``None``."""
        parts = (self.architecture, self.encoder, self.channels, self.options)
        return {
            "architecture": self.architecture,
            "encoder": self.encoder,
            "channels": self.channels,
            "options": self.options,
            "window": window or fitting_window(*parts),
        }


def _parse_config(config: dict[str, Any], name: str) -> _Network:
    """Return the network of a configuration. Raises CheckpointError if unsupported."""
    architecture = config.pop("_model_class", None)
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{name} is no network of segmentation-models-pytorch that is known here: "
            f"its class is {architecture!r}.",
            f"Known: {', '.join(ARCHITECTURES)}.",
        )
    classes = config.pop("classes", 1)
    _check_activation(config.pop("activation", None), classes)
    return _Network(
        architecture=architecture,
        encoder=config.pop("encoder_name", "resnet34"),
        channels=config.pop("in_channels", 3),
        classes=classes,
        pretrained=config.pop("encoder_weights", None),
        with_labels=config.pop("aux_params", None) is not None,
        options={k: v for k, v in config.items() if not k.startswith("_")},
    )


def _find(source: Path | str) -> tuple[Path, Path, str, str]:
    """Return the configuration file, the weights file, the name and the origin."""
    path = Path(source)
    if path.is_file() and path.name not in FILES:
        raise CheckpointError(
            f"{path.name} is {kind_of(path).title}. The method 'plain' imports folders "
            "that segmentation-models-pytorch saved: config.json with "
            "model.safetensors.",
            "Save the network with model.save_pretrained(FOLDER) and import FOLDER. "
            "Files of torch (.pth) can be imported for 'isdnet' and 'glnet'.",
        )
    folder = path.parent if path.is_file() else path
    if folder.is_dir():
        files = [folder / n for n in ("model.safetensors", "pytorch_model.bin")]
        weights = next((f for f in files if f.exists()), files[0])
        for file in (folder / "config.json", weights):
            if not file.exists():
                raise CheckpointError(
                    f"{folder} has no {file.name}.",
                    "Choose a folder written by save_pretrained of "
                    "segmentation-models-pytorch.",
                )
        name = folder.resolve().name
        return folder / "config.json", weights, name, f"the folder {name}"
    name = str(source)
    match = re.fullmatch(r"([\w.-]+/([\w.-]+))(?:@([\w./-]+))?", name)
    if match is None:
        raise CheckpointError(
            f"There is no {name}.",
            "Give a folder, or owner/name of a model on the Hugging Face hub.",
        )
    name, short, wanted = match.groups()
    config = _download(name, "config.json", wanted)
    # the cache has a folder for each commit: both files are of the same one
    commit = config.parent.name
    weights = _download(name, "model.safetensors", commit)
    return config, weights, short, f"https://huggingface.co/{name}/tree/{commit}"


def _download(name: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name} is neither a folder here nor in the Hugging Face cache, and the "
            "hub cannot be reached.",
            "Check the path; or connect to the internet once (it is kept afterwards), "
            "or copy the folder from a machine that has it.",
        ) from error
    except (OSError, ValueError, EntryNotFoundError) as error:
        first = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{file} of {name} cannot be downloaded from the Hugging Face hub: {first}",
            "Check the name, and that you have access to it.",
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}.", "Save or download the folder again."
        ) from error
    numbers = [config.get(k, 1) for k in ("in_channels", "classes")] if isinstance(
        config, dict
    ) else [0]  # fmt: skip
    if not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise CheckpointError(
            f"{path} does not describe a network of segmentation-models-pytorch.",
            "Choose a folder written by its save_pretrained.",
        )
    for number, what in zip(numbers, ("channels", "classes"), strict=True):
        if number > MAX_CLASSES:
            raise CheckpointError(
                f"The network of {path} has {formatted(number)} {what}; {MAX_CLASSES} "
                "at most "
                "are supported.",
                f"Choose a network with fewer {what}.",
            )
    return dict(config)


def _read_weights(path: Path) -> State:
    if path.suffix != ".safetensors":
        return read_state(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}.", "Save or download the folder again."
        ) from error


def _check_activation(activation: object, count: int) -> None:
    """Raise unless a softmax over the outputs gives the network's classes."""
    fits = activation in (None, "identity", "sigmoid") if count == 1 else (
        activation in LINEAR
    )  # fmt: skip
    if fits:
        return
    what = f"ends in the activation {activation!r} on {count} channels"
    if activation == "sigmoid":
        raise CheckpointError(
            f"The network {what}: each says yes or no for itself, so that a pixel may "
            "be of several classes, which labels cannot say.",
            "Import a model of one channel, or one whose classes exclude one another.",
        )
    raise CheckpointError(
        f"The network {what}, which cannot be read as classes.",
        "Save the model with activation=None, and softmax2d or one channel at most.",
    )


def _two_channels(state: State, expected: dict[str, Tensor]) -> State:
    """Return the state with a channel of zeros in front of the last convolution."""
    return {
        k: torch.cat((torch.zeros_like(v), v))
        if k.startswith("net.segmentation_head.")
        and k in expected
        and (len(v), len(expected[k])) == (1, 2)
        else v
        for k, v in state.items()
    }


def _normalised(spec: InputSpec, encoder: str, pretrained: object) -> InputSpec:
    """Return the spec with the mean and deviation of the encoder's pretraining.

    Trainings usually keep those values. The configuration does not contain them. They
    are ImageNet's for most of the library's encoders. For the others the library
    reads them from the hub or from timm. A network that was loaded and saved again has
    no ``pretrained`` in its configuration, but was normalised in the same way.
    """
    asks = encoder.startswith(("tu-", *OTHERWISE_NORMALISED)) or pretrained == "advprop"
    if spec.channels != 3 or not asks:
        return spec
    try:
        known = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {})
        usual = "imagenet" if "imagenet" in known else next(iter(known), "imagenet")
        weights = pretrained if isinstance(pretrained, str) else usual
        found = smp.encoders.get_preprocessing_params(encoder, weights)
    except (ValueError, KeyError, RuntimeError):
        return spec  # no such pretraining
    except OSError as error:
        raise CheckpointError(
            f"The normalisation of {encoder!r} is on the Hugging Face hub, which "
            "cannot be reached.",
            "Connect to the internet once (it is kept afterwards).",
        ) from error
    if found["input_space"] != "RGB":
        raise CheckpointError(
            f"{encoder!r} wants its bands in the order {found['input_space']}.",
            "Only networks for RGB can be imported.",
        )
    # these values apply to pixels from 0 to the range's end, ours to 0 to 1
    end = float(found["input_range"][1])
    mean, std = (tuple(float(x) / end for x in found[k]) for k in ("mean", "std"))
    return replace(spec, mean=mean, std=std)
