"""SGNet's surrounding branch: light encoder, context integration, and alignment.

Wang, Lin, Wu, Du, NeurIPS 2024, section 3.3; equations by its numbers. Attention within
windows is that of Swin Transformer in timm, with its relative position bias.
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

STRIDE = 16  # output stride of the light encoder
SIDE = 8  # side of a window of attention, in cells of the feature map


class SurroundingBranch(nn.Module):
    """Branch of (N, channels, H, W) to (N, width, H / 16, W / 16), rounded up.

    Parameters
    ----------
    channels
        Bands of the input.
    width, blocks, heads
        Channels, number and attention heads of the context integration blocks;
        ``heads`` divides ``width``.
    shallow_width
        Channels of the light encoder's first convolution; 32 is STDC1.
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
    """SCI module (eq. 1 to 5): attention within windows, then among their means.

    Input and output are (N, width, H, W) with any H and W. Maps are padded to whole
    windows. Attention and means ignore the padding.
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
    """Return the part of each map in its box: RoI align with one sample per cell.

    RoI align: He et al., "Mask R-CNN", ICCV 2017.

    Parameters
    ----------
    maps
        (N, C, H, W) features; each cell covers ``STRIDE`` x ``STRIDE`` pixels.
    boxes
        (N, 4) borders y0, x0, y1, x1 in pixels. A box with the borders of a cell gives
        that cell exactly.
    size
        Height and width of the result in cells.

    Returns
    -------
    Tensor
        (N, C, *size), bilinear. Cells beyond the box are used at its border. At the
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
    """Return (N, count) positions in a map whose outer borders are -1 and 1."""
    steps = (torch.arange(count, device=first.device) + 0.5) / count
    pixels = first[:, None] + steps * (last - first)[:, None]
    places = 2 * pixels / (STRIDE * cells) - 1
    return places.clamp(1 / cells - 1, 1 - 1 / cells)


def _windows(maps: Tensor) -> Tensor:
    """Return (N, C, H, W) maps as (N * windows, SIDE * SIDE, C), padded with zeros."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (0, -width % SIDE, 0, -height % SIDE))
    cut: Tensor = window_partition(padded.permute(0, 2, 3, 1), (SIDE, SIDE))
    return cut.flatten(1, 2)
