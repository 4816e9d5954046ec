"""SGNet's surrounding branch: a light encoder, context across it, and its alignment.

Wang, Lin, Wu, Du, NeurIPS 2024; equations by its numbers. Attention within windows is
Swin's, by timm, with its relative position bias.
"""

from collections.abc import Sequence

import torch
from timm.layers import Mlp
from timm.models.swin_transformer import (
    WindowAttention,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.models.blocks.stdc import TruncatedSTDC

STRIDE = 16  # of the light encoder
SIDE = 8  # of a window of attention, in its cells


class SurroundingBranch(nn.Module):
    """(N, channels, H, W) to features (N, width, H / 16, W / 16), rounded up.

    Parameters
    ----------
    width, blocks, heads
        Of the blocks that integrate context; ``heads`` divides ``width``.
    shallow_width
        Of the light encoder's first convolution; 32 is STDC1.
    """

    def __init__(
        self, channels: int, width: int, blocks: int, heads: int, shallow_width: int
    ) -> None:
        super().__init__()
        self.backbone = TruncatedSTDC(channels, shallow_width)
        self.reduce = nn.Conv2d(self.backbone.out_channels[1], width, 1)
        self.blocks = nn.Sequential(
            *(ContextIntegration(width, heads) for _ in range(blocks))
        )

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.reduce(self.backbone(image)[1]))
        return features


class ContextIntegration(nn.Module):
    """SCI: attention within windows, then among the windows' means (eq. 1 to 5).

    (N, width, H, W) to the same, any H and W: maps are padded to whole windows, and
    what is padded is neither attended to nor part of a mean.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.within = WindowAttention(width, heads, window_size=SIDE)
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.forward_norm = nn.LayerNorm(width)
        self.forward_layer = Mlp(width, 4 * width)

    def forward(self, maps: Tensor) -> Tensor:
        number, width, height, across = maps.shape
        tokens = _windows(maps)  # all windows, SIDE * SIDE, width
        known = _windows(maps.new_ones(1, 1, height, across))[..., 0]
        hidden = torch.zeros_like(known).masked_fill(known == 0, -torch.inf)
        mask = hidden[:, None].expand(-1, SIDE * SIDE, -1)
        tokens = tokens + self.within(self.norm(tokens), mask)
        tokens = tokens.view(number, len(known), SIDE * SIDE, width)
        share = known / known.sum(dim=1, keepdim=True)
        means = (tokens * share[..., None]).sum(dim=2)
        means = self.among(means, means, means, need_weights=False)[0]
        tokens = tokens + means[:, :, None]
        tokens = tokens + self.forward_layer(self.forward_norm(tokens))
        padded = (height + -height % SIDE, across + -across % SIDE)
        tokens = tokens.reshape(-1, SIDE, SIDE, width)
        whole = window_reverse(tokens, (SIDE, SIDE), *padded)
        cut: Tensor = whole[:, :height, :across].permute(0, 3, 1, 2)
        return cut.contiguous()


def align(maps: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """RoI align, one sample a cell: what a map shows in each one's box.

    Parameters
    ----------
    maps
        (N, C, H, W), each cell standing for ``STRIDE`` x ``STRIDE`` pixels.
    boxes
        (N, 4) y0, x0, y1, x1 in those pixels, borders and not centres: a box of a
        cell's own borders gives that cell exactly.
    size
        Height and width of the result.

    Returns
    -------
    Tensor
        (N, C, *size). Bilinear; at the box's border the cells beyond it count, at the
        map's border the last cell is repeated.
    """
    y0, x0, y1, x1 = boxes.to(maps.device).unbind(-1)
    y = _samples(y0, y1, size[0], maps.shape[-2])
    x = _samples(x0, x1, size[1], maps.shape[-1])
    grid = torch.stack(
        (x[:, None].expand(-1, size[0], -1), y[..., None].expand(-1, -1, size[1])), -1
    )
    cut = F.grid_sample(maps.float(), grid, align_corners=False)
    return cut.to(maps.dtype)


def _samples(first: Tensor, last: Tensor, count: int, cells: int) -> Tensor:
    """(N, count) places in a map from -1 to 1, which are its outer borders."""
    steps = (torch.arange(count, device=first.device) + 0.5) / count
    pixels = first[:, None] + steps * (last - first)[:, None]
    places = 2 * pixels / (STRIDE * cells) - 1
    return places.clamp(1 / cells - 1, 1 - 1 / cells)


def _windows(maps: Tensor) -> Tensor:
    """(N, C, H, W) to (N * windows, SIDE * SIDE, C), zeros where there is no cell."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (0, -width % SIDE, 0, -height % SIDE))
    cut: Tensor = window_partition(padded.permute(0, 2, 3, 1), (SIDE, SIDE))
    return cut.flatten(1, 2)
