"""Any segmentation-models-pytorch network, made from plain arguments."""

import re
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationHead
from torch import nn

from napari_uhrseg.errors import CheckpointError

ARCHITECTURES: Mapping[str, type[nn.Module]] = {
    name: getattr(smp, name)
    for name in (
        "DeepLabV3Plus", "DeepLabV3", "FPN", "Linknet", "MAnet", "PAN", "PSPNet",
        "Segformer", "Unet", "UnetPlusPlus", "UPerNet", "DPT",
    )
    if hasattr(smp, name)
}  # fmt: skip

# mmsegmentation's sizes for ResNet-18 at output stride 8, which papers mean by
# "DeepLabv3+ R18-d8"
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "DeepLabV3Plus": {"encoder_output_stride": 8, "decoder_channels": 128},
    "DeepLabV3": {"encoder_output_stride": 8, "decoder_channels": 128},
}

# keys that options must not set: other arguments set them, or they name files
NOT_OPTIONS = frozenset(
    ("encoder_name", "encoder_weights", "in_channels", "classes", "checkpoint_path",
     "cache_dir", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
)  # fmt: skip


def check_encoder(name: object) -> None:
    """Whether it can be an encoder's name, as a file from elsewhere may hold anything.

    timm also takes ``hf-hub:owner/name`` and folders, and asks the hub for the first:
    opening a file must not. Raises CheckpointError.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise CheckpointError(
            f"{name!r} is no encoder: names are of letters, digits, '.', '_' and '-'.",
            "Choose an encoder of segmentation-models-pytorch, or 'tu-' and the name "
            "of a timm model.",
        )


def make_segmenter(
    architecture: str,
    encoder: str,
    classes: int,
    channels: int,
    window: int,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
) -> Any:
    """The network, as the library builds it.

    Parameters
    ----------
    architecture
        A class of segmentation_models_pytorch.
    encoder
        Its name there, or ``tu-`` and a name of timm.
    window
        Side of the input; must be a multiple of the encoder's stride.
    options
        More arguments of the architecture; they replace ``DEFAULTS``.
    pretrained
        Fetch the encoder's ImageNet weights (through timm, or the cache).

    Raises
    ------
    CheckpointError
        The architecture, the encoder, an option or the window cannot be, or the
        weights cannot be fetched.
    """
    check_encoder(encoder)
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"There is no architecture named {architecture!r}.",
            f"Known: {', '.join(ARCHITECTURES)}.",
        )
    taken = sorted(NOT_OPTIONS.intersection(options or ()))
    if taken:
        raise CheckpointError(
            f"The options of {architecture} must not set {', '.join(taken)}.",
            "Leave those out.",
        )
    made = ARCHITECTURES[architecture]
    arguments = {
        "encoder_name": encoder,
        "in_channels": channels,
        "classes": classes,
        **(DEFAULTS.get(architecture, {}) if options is None else options),
    }
    net = _built(made, {**arguments, "encoder_weights": None})
    stride = int(net.encoder.output_stride)
    if window % stride:
        near = max(1, round(window / stride)) * stride
        raise CheckpointError(
            f"A window of {window} pixels does not fit {architecture} with {encoder}: "
            f"it must be a multiple of {stride}.",
            f"Take {near}.",
        )
    if pretrained:
        net = _with_weights(made, arguments)
    return net


def fitting_window(
    architecture: str,
    encoder: str,
    channels: int,
    options: Mapping[str, Any] | None = None,
    near: int = 512,
) -> int:
    """The side closest to ``near`` that the network takes; raises as make_segmenter."""
    # every stride divides 0
    net = make_segmenter(architecture, encoder, 1, channels, 0, options)
    stride = int(net.encoder.output_stride)
    return max(1, round(near / stride)) * stride


def separable(net: Any, architecture: str, method: str) -> nn.Conv2d:
    """Return the classifier of a network whose features are separate from it.

    Raises
    ------
    CheckpointError
        They cannot be separated. ``method`` names the method that needs them.
    """
    head = net.segmentation_head
    if not isinstance(head, SegmentationHead):
        raise CheckpointError(
            f"{method} cannot use {architecture}: its features and its classifier "
            "cannot be separated.",
            "Choose DeepLabV3Plus, FPN, PSPNet, UPerNet, Segformer or Unet.",
        )
    classifier: nn.Conv2d = head[0]
    return classifier


def _built(made: type[nn.Module], arguments: dict[str, Any]) -> Any:
    try:
        return made(**arguments)
    except Exception as error:  # whatever the parts make of what they are given
        raise CheckpointError(
            f"{made.__name__} with the encoder {arguments['encoder_name']!r} cannot "
            f"be built: {error}",
            "Choose an encoder of segmentation-models-pytorch, or 'tu-' and the name "
            "of a timm model, and options the architecture has.",
        ) from error


def _with_weights(made: type[nn.Module], arguments: dict[str, Any]) -> Any:
    encoder = arguments["encoder_name"]
    weights = True if encoder.startswith("tu-") else "imagenet"
    try:
        return made(**arguments, encoder_weights=weights)
    except (OSError, RuntimeError, KeyError) as error:  # hub errors are OSErrors
        raise weights_missing(encoder, error) from error


def weights_missing(encoder: str, error: Exception) -> CheckpointError:
    """Return the error for ImageNet weights that cannot be downloaded."""
    first = str(error).partition("\n")[0]
    return CheckpointError(
        f"The ImageNet weights of {encoder!r} are not available: {first}",
        "Connect to the internet once (they are kept afterwards), copy the "
        "Hugging Face cache from a machine that has them, or train from scratch "
        "with --no-pretrained.",
    )
