"""A convolutional encoder by name, as a list of maps from fine to coarse."""

from typing import Any

import timm
from torch import nn

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.blocks.resnet_v1c import ResNet18V1c
from napari_uhrseg.models.blocks.smp_network import check_encoder, weights_missing


def make_encoder(
    name: str, channels: int, pretrained: bool = False, dense: bool = True
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
    dense
        ``False``: not dilated; maps at a quarter, an eighth, a 16th and a 32nd.

    Raises
    ------
    CheckpointError
        There is no such encoder, it has no such maps, or its weights cannot be
        fetched.
    """
    check_encoder(name)
    if name == "resnet18_v1c" and dense:
        return ResNet18V1c(channels, pretrained), ResNet18V1c.out_channels
    name = name.removeprefix("tu-")
    arguments: dict[str, Any] = {"features_only": True, "in_chans": channels}
    strides: list[dict[str, int]] = [{"output_stride": 8}, {"output_stride": 16}, {}]
    if not dense:
        arguments["out_indices"], strides = (1, 2, 3, 4), [{}]
    for stride in strides:
        try:
            net = timm.create_model(name, **arguments, **stride)
            break
        except (RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
            failure = error  # many families have fixed strides
    else:
        raise CheckpointError(
            f"The encoder {name!r} cannot be built: {failure}",
            f"Choose {'`resnet18_v1c` or ' if dense else ''}a convolutional model of "
            "timm.",
        ) from failure
    if not dense and net.feature_info.reduction() != [4, 8, 16, 32]:
        raise CheckpointError(
            f"The encoder {name!r} has no maps at a quarter, an eighth, a 16th and a "
            "32nd of the resolution.",
            "Choose one that has, for example resnet18.",
        )
    if pretrained:
        try:
            net = timm.create_model(name, **arguments, **stride, pretrained=True)
        except (OSError, RuntimeError, KeyError) as error:  # hub errors are OSErrors
            raise weights_missing(name, error) from error
    return net, tuple(net.feature_info.channels())
