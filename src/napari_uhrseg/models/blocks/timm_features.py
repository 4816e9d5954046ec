"""Encoders of timm by name; each returns a list of maps from fine to coarse.

HRNet is as in its papers' code: Wang et al., "Deep High-Resolution Representation
Learning for Visual Recognition", TPAMI 2020. timm builds the network and its ImageNet
weights; the keys are those of mmsegmentation. timm's fuse layers enlarge maps to the
nearest pixel, the reference enlarges them bilinearly (align_corners False). This module
replaces the former by the latter.
"""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.blocks.resnet_v1c import ResNet18V1c
from napari_uhrseg.models.blocks.smp_network import check_encoder, weights_missing

RGB = 3


def make_encoder(
    name: str, channels: int, pretrained: bool = False, dense: bool = True
) -> tuple[nn.Module, tuple[int, ...]]:
    """Return an encoder and the channels of its maps.

    Parameters
    ----------
    name
        ``"resnet18_v1c"`` (mmsegmentation's), or the name of a timm model with feature
        maps; a leading ``tu-`` is removed.
    channels
        Bands of the image, at least 1.
    pretrained
        Load ImageNet weights.
    dense
        If True, output stride 8, or the smallest one that the model supports. If False,
        without dilation: maps at a quarter, an eighth, a 16th and a 32nd.

    Raises
    ------
    CheckpointError
        If there is no such encoder, it has no such maps, or its weights are not
        available.
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


def make_truncated(
    name: str, channels: int, strides: tuple[int, ...], pretrained: bool = False
) -> Any:
    """Return an encoder of timm that ends with the last of the wanted maps.

    Parameters
    ----------
    name
        Name of a timm model; a leading ``tu-`` is removed.
    channels
        Bands of the image, at least 1.
    strides
        Strides of the maps: 2, 4, 8 and so on.
    pretrained
        Load ImageNet weights.

    Raises
    ------
    CheckpointError
        If there is no such encoder, it has no such maps, or its weights are not
        available.
    """
    check_encoder(name)
    name = name.removeprefix("tu-")
    arguments: dict[str, Any] = {
        "features_only": True,
        "in_chans": channels,
        "out_indices": tuple(range(len(strides))),
    }
    try:
        net = timm.create_model(name, **arguments)
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise CheckpointError(
            f"The encoder {name!r} cannot be built: {error}",
            "Choose a convolutional model of timm.",
        ) from error
    if net.feature_info.reduction() != list(strides):
        raise CheckpointError(
            f"The encoder {name!r} has no maps with the strides {strides}.",
            "Choose one that has, for example tf_efficientnet_lite0.",
        )
    if pretrained:
        try:
            net = timm.create_model(name, **arguments, pretrained=True)
        except (OSError, RuntimeError, KeyError) as error:  # hub errors are OSErrors
            raise weights_missing(name, error) from error
    part, _, last = net.feature_info.module_name()[-1].partition(".")
    if part == "blocks":  # timm keeps the blocks after the last map
        net.blocks = net.blocks[: int(last) + 1]
    return net


def make_hrnet(
    encoder: str, channels: int, stride: int = 8, pretrained: bool = False
) -> Any:
    """Build an HRNet that returns its four branches, finest first.

    The input is (N, C, H, W) with H and W multiples of 8 times ``stride``. The output
    is a list of maps at ``stride`` and 2, 4 and 8 times ``stride``.
    ``feature_info.channels()`` returns their numbers of channels.

    Parameters
    ----------
    encoder
        One of timm's HRNets, such as ``hrnet_w48`` or ``hrnet_w18_small``.
    channels
        Bands of the input, at least 1. With ImageNet weights, the kernels of the fourth
        and further bands start as the mean of the three trained ones.
    stride
        Output stride, 4 or 8. For 8, the second convolution of the first bottleneck and
        its shortcut have stride 2. No weight changes its shape.
    pretrained
        Load ImageNet weights, from the cache or the hub.

    Returns
    -------
    nn.Module
        timm's network with bilinear fuse layers.

    Raises
    ------
    CheckpointError
        If the encoder is not an HRNet, or its weights are not available.
    """
    _check_hrnet(encoder)
    wanted = {
        "features_only": True,
        "feature_location": "",
        "out_indices": (1, 2, 3, 4),
    }
    if not pretrained:
        net = timm.create_model(encoder, in_chans=channels, **wanted)
    else:
        known = min(channels, RGB)
        try:
            net = timm.create_model(encoder, True, in_chans=known, **wanted)
        except (OSError, RuntimeError, KeyError) as error:  # hub errors are OSErrors
            raise weights_missing(encoder, error) from error
        if channels > known:
            net.conv1 = widened(net.conv1, channels)
    for part in net.modules():
        if isinstance(part, nn.Upsample):
            part.mode, part.align_corners = "bilinear", False
    if stride == 8:
        first = net.layer1[0]
        first.conv2.stride = first.downsample[0].stride = (2, 2)
    return net


def widened(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a convolution with more inputs; new kernels are the mean of the others."""
    weight = conv.weight.detach()
    extra = weight.mean(dim=1, keepdim=True)
    extra = extra.expand(-1, channels - conv.in_channels, -1, -1)
    wide = nn.Conv2d(channels, conv.out_channels, 3, 2, padding=1, bias=False)
    wide.weight = nn.Parameter(torch.cat((weight, extra), dim=1))
    return wide


def concatenate_maps(maps: list[Tensor]) -> Tensor:
    """Concatenate maps at the first one's size, bilinear: (N, channels, h, w)."""
    size = maps[0].shape[-2:]
    rest = [
        F.interpolate(m, size=size, mode="bilinear", align_corners=False)
        for m in maps[1:]
    ]
    return torch.cat([maps[0], *rest], dim=1)


def _check_hrnet(encoder: str) -> None:
    check_encoder(encoder)
    if encoder.partition(".")[0] not in timm.list_models(module="hrnet"):
        raise CheckpointError(
            f"{encoder!r} is no HRNet.",
            f"Choose one of {', '.join(timm.list_models(module='hrnet'))}.",
        )
