"""Relation-aware feature fusion (RAF) of ISDNet.

Guo et al., "ISDNet: Integrating Shallow and Deep Networks for Efficient
Ultra-high Resolution Segmentation", CVPR 2022. Equations by its numbers.
"""

from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.models.blocks.common import ConvBn, ConvBnReLU


class RAF(nn.Module):
    """Relation-aware feature fusion (section 3.3, eq. 2 to 5) of fine and coarse maps.

    Parameters
    ----------
    inputs
        Channels of the fine maps.
    width
        C, the channels of the coarse and the fused maps; 2 C = r^2.
    relation
        Weight the channels by eq. 2 to 4. Otherwise the maps are only added, as in the
        first row of Table 6.
    """

    def __init__(self, inputs: int, width: int, relation: bool = True) -> None:
        super().__init__()
        self.r = isqrt(2 * width)
        self.relation = relation
        self.spatial_att = Attention(inputs, width, relation)
        self.context_att = Attention(width, width, relation)
        if relation:
            self.spatial_mlp = _mlp(self.r**2, width)
            self.context_mlp = _mlp(self.r**2, width)
            self.g1 = nn.Parameter(torch.zeros(1))
            self.g2 = nn.Parameter(torch.zeros(1))
        self.context_head = ConvBnReLU(width, width)
        self.smooth = ConvBn(width, width)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Return the added context and the fused maps, both of the fine maps' size."""
        return self.fuse(self.spatial_att(fine), self.context_att(coarse))

    def fuse(
        self, fine: tuple[Tensor, Tensor], coarse: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the same as ``forward``, from the results of both ``Attention``s."""
        s_factor, c_factor = self.factors(fine[1], coarse[1])
        spatial, context = fine[0] * s_factor, coarse[0] * c_factor  # eq. 5
        context = self.context_head(resized(context, spatial))
        return context, self.smooth(spatial + context)

    def factors(self, s_vector: Tensor, c_vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of the fine and coarse channels, (N, C, 1, 1) each.

        They are 1 without the relation.
        """
        if not self.relation:
            ones = torch.ones_like(s_vector[..., None, None])
            return ones, ones
        s_groups = s_vector.view(len(s_vector), self.r, -1)
        c_groups = c_vector.view(len(c_vector), self.r, -1)
        relation = (s_groups @ c_groups.transpose(1, 2)).flatten(1)  # eq. 3
        s_vector = s_vector + self.g1 * self.spatial_mlp(relation)
        c_vector = c_vector + self.g2 * self.context_mlp(relation)
        return s_vector.sigmoid()[..., None, None], c_vector.sigmoid()[..., None, None]


class Attention(nn.Module):
    """Channel attention (eq. 2): (N, width, h, w) maps and (N, width) values.

    Without values, the means of the maps take their place.
    """

    def __init__(self, inputs: int, width: int, values: bool = True) -> None:
        super().__init__()
        self.conv_bn_relu = ConvBnReLU(inputs, width)
        self.conv_1x1 = ConvBn(width, width, 1) if values else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv_bn_relu(x)
        return x, self.vector(x)

    def vector(self, maps: Tensor) -> Tensor:
        """Return the (N, width) values of the maps, or of their mean over space."""
        value: Tensor = self.conv_1x1(F.adaptive_avg_pool2d(maps, 1))
        return value.flatten(1)


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(inplace=True),
        nn.Linear(width, width), nn.ReLU(inplace=True),
    )  # fmt: skip


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps bilinearly to the height and width of others."""
    size = like.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
