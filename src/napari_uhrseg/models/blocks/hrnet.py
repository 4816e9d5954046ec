"""HRNet as the papers' code has it: bilinear inside, at output stride 4 or 8.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition",
TPAMI 2020. timm builds the network and knows its ImageNet weights; its keys are
those of mmsegmentation. Its fuse layers enlarge maps to the nearest pixel, where the
reference is bilinear (align_corners False): that is changed here.
"""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.blocks.smp_network import check_encoder, weights_missing

RGB = 3


def make_hrnet(
    encoder: str, channels: int, stride: int = 8, pretrained: bool = False
) -> Any:
    """The four branches, finest first.

    Input (N, C, H, W), H and W multiples of 8 times ``stride``; the output is a list
    of maps at ``stride``, 2, 4 and 8 times ``stride``. Its
    ``feature_info.channels()`` are their numbers of channels.

    Parameters
    ----------
    encoder
        One of timm's HRNets, such as ``hrnet_w48`` or ``hrnet_w18_small``.
    channels
        Of the input. With ImageNet weights the fourth and further ones start as the
        mean of the three that were learnt.
    stride
        4, or 8: then the second convolution of the first bottleneck, and the short
        cut past it, step by two. No weight changes its shape.
    pretrained
        Fetch ImageNet weights (or take them from the cache).

    Raises
    ------
    CheckpointError
        The encoder is no HRNet, or its weights cannot be fetched.
    """
    _check(encoder)
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
    """The convolution with more inputs: the new kernels are the mean of the old."""
    weight = conv.weight.detach()
    extra = weight.mean(dim=1, keepdim=True)
    extra = extra.expand(-1, channels - conv.in_channels, -1, -1)
    wide = nn.Conv2d(channels, conv.out_channels, 3, 2, padding=1, bias=False)
    wide.weight = nn.Parameter(torch.cat((weight, extra), dim=1))
    return wide


def joined(maps: list[Tensor]) -> Tensor:
    """All branches at the finest one's size, bilinear: (N, sum of channels, h, w)."""
    size = maps[0].shape[-2:]
    rest = [
        F.interpolate(m, size=size, mode="bilinear", align_corners=False)
        for m in maps[1:]
    ]
    return torch.cat([maps[0], *rest], dim=1)


def _check(encoder: str) -> None:
    check_encoder(encoder)
    if encoder.partition(".")[0] not in timm.list_models(module="hrnet"):
        raise CheckpointError(
            f"{encoder!r} is no HRNet.",
            f"Choose one of {', '.join(timm.list_models(module='hrnet'))}.",
        )
