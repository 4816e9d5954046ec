"""Networks of segmentation-models-pytorch, built from plain arguments."""

import re
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.blocks.common import ConvBnReLU


class FCNDecoder(nn.Module):
    """Decoder of an FCN on the last map of an encoder, as mmsegmentation's FCN head.

    Parameters
    ----------
    inputs
        Channels of the encoder's last map.
    width
        Channels of the result.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvBnReLU(inputs, width), ConvBnReLU(width, width))
        self.conv_cat = ConvBnReLU(inputs + width, width)
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, features: list[Tensor]) -> Tensor:
        last = features[-1]
        joined = self.conv_cat(torch.cat([last, self.convs(last)], dim=1))
        found: Tensor = self.dropout(joined)
        return found


class FCN(SegmentationModel):  # type: ignore[misc] # the library is not typed
    """Fully convolutional network at output stride 8, which papers call FCN-8s.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
    with the dilated encoder and the head of mmsegmentation.

    Parameters
    ----------
    encoder_name, encoder_weights
        Encoder, and name of its trained weights; ``None``: random weights.
    in_channels, classes
        Channels of the input and of the logits.
    encoder_depth, encoder_output_stride
        Number of the encoder's stages, and input pixels for each pixel of its last map.
    decoder_channels
        Channels before the classifier; the paper's FCN with ResNet-50 has 512.
    """

    def __init__(
        self,
        encoder_name: str = "resnet50",
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1,
        encoder_depth: int = 5,
        encoder_output_stride: int = 8,
        decoder_channels: int = 512,
    ) -> None:
        super().__init__()
        self.encoder = get_encoder(
            encoder_name,
            in_channels=in_channels,
            depth=encoder_depth,
            weights=encoder_weights,
            output_stride=encoder_output_stride,
        )
        self.decoder = FCNDecoder(self.encoder.out_channels[-1], decoder_channels)
        self.segmentation_head = SegmentationHead(
            decoder_channels, classes, kernel_size=1, upsampling=encoder_output_stride
        )
        self.classification_head = None
        self.name = f"fcn-{encoder_name}"
        self.initialize()


ARCHITECTURES: Mapping[str, type[nn.Module]] = {"FCN": FCN} | {
    name: getattr(smp, name)
    for name in (
        "DeepLabV3Plus", "DeepLabV3", "FPN", "Linknet", "MAnet", "PAN", "PSPNet",
        "Segformer", "Unet", "UnetPlusPlus", "UPerNet", "DPT",
    )
    if hasattr(smp, name)
}  # fmt: skip

# mmsegmentation's sizes for ResNet-18 at output stride 8, which papers call
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
    """Check that a value from a file can be the name of an encoder.

    timm also accepts folders and ``hf-hub:owner/name``, for which it contacts the hub.
    Opening a file must not do that.

    Raises
    ------
    CheckpointError
        If it cannot be a name.
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
    """Build a network of segmentation-models-pytorch.

    Parameters
    ----------
    architecture
        Name in `ARCHITECTURES`.
    encoder
        Name of an encoder of the library, or ``tu-`` and the name of a timm model.
    classes
        Channels of the logits, at least 1.
    channels
        Bands of the input, at least 1.
    window
        Side of the input in pixels, a multiple of the encoder's stride; 0: unchecked.
    options
        Further arguments of the architecture; they replace `DEFAULTS`.
    pretrained
        Load ImageNet weights of the encoder, from the cache or the hub.

    Returns
    -------
    nn.Module
        The network of the library, which maps (N, channels, H, W) to logits
        (N, classes, H, W).

    Raises
    ------
    CheckpointError
        If the architecture, the encoder, an option or the window is invalid, or the
        weights are not available.
    """
    _check_arguments(architecture, encoder, options)
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


def _check_arguments(
    architecture: str, encoder: str, options: Mapping[str, Any] | None
) -> None:
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


def fitting_window(
    architecture: str,
    encoder: str,
    channels: int,
    options: Mapping[str, Any] | None = None,
    near: int = 512,
) -> int:
    """Return the window side closest to ``near`` that a network accepts.

    Parameters
    ----------
    architecture
        Name in `ARCHITECTURES`.
    encoder
        Name of the encoder, as in `make_segmenter`.
    channels
        Bands of the input, at least 1.
    options
        Further arguments of the architecture; they replace `DEFAULTS`.
    near
        Requested side in pixels.

    Raises
    ------
    CheckpointError
        If the network cannot be built.
    """
    # every stride divides 0
    net = make_segmenter(architecture, encoder, 1, channels, 0, options)
    stride = int(net.encoder.output_stride)
    return max(1, round(near / stride)) * stride


def separable(net: Any, architecture: str, method: str) -> nn.Conv2d:
    """Return the classifier of a network whose features are separate from it.

    Parameters
    ----------
    net
        A network of `make_segmenter`.
    architecture
        Its architecture, for the error message.
    method
        Name of the method that needs the features, for the error message.

    Raises
    ------
    CheckpointError
        If features and classifier cannot be separated.
    """
    head = net.segmentation_head
    if not isinstance(head, SegmentationHead):
        raise _inseparable_error(architecture, method)
    classifier: nn.Conv2d = head[0]
    return classifier


def _inseparable_error(architecture: str, method: str) -> CheckpointError:
    return CheckpointError(
        f"{method} cannot use {architecture}: its features and its classifier cannot "
        "be separated.",
        "Choose DeepLabV3Plus, FCN, FPN, PSPNet, UPerNet, Segformer or Unet.",
    )


def _built(made: type[nn.Module], arguments: dict[str, Any]) -> Any:
    try:
        return made(**arguments)
    except Exception as error:  # the libraries raise many types for bad arguments
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
        "Hugging Face cache from a machine that has them, or train from "
        "scratch: add --no-pretrained.",
    )
