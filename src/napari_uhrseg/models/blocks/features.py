"""A convolutional encoder by name, as a list of maps from fine to coarse."""

from typing import Any

import timm
from torch import nn

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.blocks.resnet_v1c import ResNet18V1c


def make_encoder(
    name: str, channels: int, pretrained: bool = False
) -> tuple[nn.Module, tuple[int, ...]]:
    """The encoder at output stride 8, or the nearest it can, and its maps' channels.

    Parameters
    ----------
    name
        ``"resnet18_v1c"``, mmsegmentation's, or any name of timm that it can make a
        list of maps of; a leading ``tu-`` is left out.
    channels
        Of the image.
    pretrained
        Fetch ImageNet weights.

    Raises
    ------
    CheckpointError
        There is no such encoder, or its weights cannot be fetched.
    """
    if name == "resnet18_v1c":
        return ResNet18V1c(channels, pretrained), ResNet18V1c.out_channels
    name = name.removeprefix("tu-")
    arguments: dict[str, Any] = {"features_only": True, "in_chans": channels}
    for stride in ({"output_stride": 8}, {"output_stride": 16}, {}):
        try:
            net = timm.create_model(name, **arguments, **stride)
            break
        except (RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
            failure = error  # many families have fixed strides
    else:
        raise CheckpointError(
            f"The encoder {name!r} cannot be built: {failure}",
            "Choose 'resnet18_v1c' or a convolutional model of timm.",
        ) from failure
    if pretrained:
        try:
            net = timm.create_model(name, **arguments, **stride, pretrained=True)
        except (OSError, RuntimeError, KeyError) as error:  # hub errors are OSErrors
            first = str(error).partition("\n")[0]
            raise CheckpointError(
                f"The ImageNet weights of {name!r} cannot be had: {first}",
                "Connect to the internet once (they are kept afterwards), copy the "
                "Hugging Face cache from a machine that has them, or train from "
                "scratch with --no-pretrained.",
            ) from error
    return net, tuple(net.feature_info.channels())
