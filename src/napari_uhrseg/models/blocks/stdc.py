"""First four stages of STDC1 ("813M"), the light encoder of ISDNet and SGNet.

Fan et al., "Rethinking BiSeNet for Real-time Semantic Segmentation", CVPR 2021. As in
ISDNet's code, there is no layer after a sixteenth of the resolution. Keys are those of
ISDNet's code.
"""

import torch
from torch import Tensor, nn

from napari_uhrseg.models.blocks.common import ConvBnReLU


class CatBottleneck(nn.Module):
    """Short-term dense concatenate module: four successive convolutions, concatenated.

    With stride 2, a depth-wise convolution without activation halves the first output
    before the second convolution. The concatenated copy is average-pooled.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels; ``outputs`` is a multiple of 8.
    stride
        1 or 2.
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
    """Encoder of (N, C, H, W) to features at 1/8 and 1/16 of the sides, rounded up.

    Parameters
    ----------
    channels
        Bands of the input: 3 for an image, 6 for ISDNet's residuals.
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
