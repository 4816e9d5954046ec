"""The first four stages of STDC1 ("813M"), which ISDNet and SGNet look through.

Fan et al., "Rethinking BiSeNet for Real-time Semantic Segmentation", CVPR 2021, as
ISDNet's authors cut it: nothing after a sixteenth of the resolution. Keys are theirs.
"""

import torch
from torch import Tensor, nn

from napari_uhrseg.models.blocks.common import ConvBnReLU


class CatBottleneck(nn.Module):
    """Four convolutions, each on the last one's output, all of them concatenated.

    With stride 2 the first one's output is halved before the second (depth-wise,
    without activation), and average-pooled where it is concatenated.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = outputs // 2, outputs // 4, outputs // 8
        self.conv_list = nn.ModuleList(
            (
                ConvBnReLU(inputs, half, 1),
                ConvBnReLU(half, quarter),
                ConvBnReLU(quarter, eighth),
                ConvBnReLU(eighth, eighth),
            )
        )
        self.avd_layer: nn.Module | None = None
        self.skip: nn.Module = nn.Identity()
        if stride == 2:
            self.avd_layer = nn.Sequential(
                nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False),
                nn.BatchNorm2d(half),
            )
            self.skip = nn.AvgPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_list[0](x)
        parts = [self.skip(x)]
        x = x if self.avd_layer is None else self.avd_layer(x)
        for conv in self.conv_list[1:]:
            x = conv(x)
            parts.append(x)
        return torch.cat(parts, dim=1)


class TruncatedSTDC(nn.Module):
    """(N, C, H, W) to features at an eighth and a sixteenth, rounded up.

    Parameters
    ----------
    channels
        Of the input: 3 for an image, 6 for ISDNet's residuals.
    width
        Channels of the first convolution. 32 is STDC1; the outputs have 8 and 16
        times as many.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.out_channels = (8 * width, 16 * width)
        self.features = nn.ModuleList(
            (
                ConvBnReLU(channels, width, 3, 2),
                ConvBnReLU(width, 2 * width, 3, 2),
                CatBottleneck(2 * width, 8 * width, 2),
                CatBottleneck(8 * width, 8 * width, 1),
                CatBottleneck(8 * width, 16 * width, 2),
                CatBottleneck(16 * width, 16 * width, 1),
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.features[:4]:
            x = layer(x)
        eighth = x
        for layer in self.features[4:]:
            x = layer(x)
        return eighth, x
