"""Atrous spatial pyramid pooling (ASPP): the head of DeepLabv3.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
with mmsegmentation's names, rates and order.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.models.blocks.common import ConvBnReLU


class ASPPHead(nn.Module):
    """ASPP head: (N, inputs, h, w) to (N, width, h, w) maps, with a classifier.

    Parameters
    ----------
    inputs
        Channels of the input.
    width
        Channels of the output.
    classes
        Channels of the logits.
    dilations
        Dilation of each branch; 1 is a 1 x 1 convolution. The defaults suit maps at an
        eighth of the resolution.
    dropout
        Fraction of channels dropped before the classifier in training, 0 to 1.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        classes: int,
        dilations: tuple[int, ...] = (1, 12, 24, 36),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.image_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvBnReLU(inputs, width, 1)
        )
        self.aspp_modules = nn.ModuleList(
            ConvBnReLU(inputs, width, 1 if dilation == 1 else 3, dilation=dilation)
            for dilation in dilations
        )
        self.bottleneck = ConvBnReLU((1 + len(dilations)) * width, width)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg: nn.Conv2d | None = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = F.interpolate(
            self.image_pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False
        )
        branches = [whole, *(branch(x) for branch in self.aspp_modules)]
        out: Tensor = self.bottleneck(torch.cat(branches, dim=1))
        return out

    def classify(self, features: Tensor) -> Tensor | None:
        """Return logits (N, classes, h, w); ``None`` if the classifier is removed."""
        if self.conv_seg is None:
            return None
        logits: Tensor = self.conv_seg(self.dropout(features))
        return logits
