"""EHSNet: whole frames with long-range convolutions and hard-pixel attention.

Chen, Li, Dang, Zhang: "EHSNet: End-to-End Holistic Learning Network for Large-Size
Remote Sensing Image Semantic Segmentation", arXiv 2211.11316 (its first version was
called ElegantSeg). Equations by its numbers. The authors' code is not public.

The network is HRNet at output stride 8, LRD (parallel kernels of up to 31 x 31), ECR
(attention for the 10 % of the pixels with the least certain auxiliary prediction) and
the classifier. Checkpoints therefore contain the auxiliary head. Class borders have
twice the weight in the loss (BAE).

Published: mIoU 59.48 on FBP (6800 x 7200, 24 classes; HRNet alone 53.83), 78.51 on
Inria (the building class alone). A whole image of FBP takes 4.8 s and 24 GB in one
pass. The ablation on FBP ends at 52.42, which the paper does not explain.

Decisions that the paper leaves open, with the reason:

[choice] Output stride 8 by stride 2 in the first bottleneck: every branch is halved,
and pretrained weights still fit.
[choice] HRNet-W48, as in SGNet's table; its branches are resized to the finest one
and concatenated, as its authors do for segmentation.
[choice] A 1 x 1 convolution from there to ``width`` channels, d of the paper; k, the
channels within LRD, is the same (the paper has 256 for both).
[choice] Every convolution of LRD has batch norm and ReLU; the 5 x 5 is a full one; the
three large kernels read its output (figure 4); the concatenation takes LRD's input.
[choice] Hard pixels have the smallest margin between the two highest logits, at the
features' resolution. The text's "maximum of the difference" would select the most
certain pixels, which contradicts "with low confidence". With a single class, the margin
is the logit's distance from 0. No gradient flows through the selection.
[choice] One attention head with ``width`` keys and values; the residual is part of it,
as in Shen et al.'s code.
[choice] The auxiliary head reads the joined branches: 3 x 3 convolution, batch norm,
ReLU, dropout 0.1, 1 x 1. The main one is a 1 x 1 convolution.
[choice] The border of eq. 6 is any change of class within Sobel's 5 x 5 support: the
signed sum over class numbers could cancel. Ignored pixels are not a class.
[choice] Training uses crops of 1024 pixels, and frames of the same size are labelled.
The paper trains on whole images, with the activations in a terabyte of main memory.
[choice] Polynomial decay, momentum 0.9, weight decay 5e-4, the rate of the heads like
that of the rest. The paper gives SGD, 0.01 to 0.0001 in steps after 1500 iterations at
5e-5, ten times that for the heads, 10,000 iterations of 3 images (6 for Inria).
[choice] Ordinary batch norm, as batches have more than one image per device here.
"""

import math
from typing import ClassVar

import torch
from timm.layers import ConvNormAct
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.banded import RowBlock, apply_banded, row_blocks
from napari_uhrseg.models.blocks.common import (
    auxiliary_head,
    default_mean,
    default_std,
    no_autocast,
)
from napari_uhrseg.models.blocks.efficient_attention import EfficientAttention
from napari_uhrseg.models.blocks.losses import border_weights, cross_entropy
from napari_uhrseg.models.blocks.timm_features import concatenate_maps, make_hrnet
from napari_uhrseg.types import InputSpec, Recipe, Stage, View

DIVISOR = 64  # the coarsest branch
KERNELS = (7, 15, 31)
EIGHTH = 8
# rows on which a result depends, in rows of the step's first input
STEM = 64  # HRNet to its second branch: 39
JOINED = 16  # a row of the coarsest branch (8) and a convolution
LONG = 17  # 5 x 5 and 31 x 31


class EHSNet(Segmenter):
    """Network for whole frames (Chen et al., arXiv 2211.11316, eq. 1 to 9).

    Frames are (N, C, h, w) with h and w multiples of 64.

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1. With ImageNet weights, the
        kernels of the fourth and further bands start as the mean of the first three.
    encoder
        Name of an HRNet of timm.
    width
        d and k of section 3.2 (eq. 1): channels after the encoder.
    share
        a of section 3.3 (eq. 2): fraction of hard pixels, at most 1; 0: without ECR.
    long_range
        Have the LRD module (section 3.2).
    border_weight
        Additional weight of pixels near class borders (BAE, eq. 6), at least 0.
    window
        Side of a training crop in pixels, a multiple of 64.
    frame
        Side of the largest frame in pixels; rounded up to a multiple of 64. ``None``:
        ``window``. Attention that was trained on crops fails in much larger frames.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If an argument is invalid, or the weights are not available.
    """

    supports_banded: ClassVar[bool] = True
    frames_like_crops: ClassVar[bool] = True

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        encoder: str = "hrnet_w48",
        width: int = 256,
        share: float = 0.1,
        long_range: bool = True,
        border_weight: float = 1.0,
        window: int = 1024,
        frame: int | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        frame = window if frame is None else frame
        _check(window, frame, share)
        self.spec = InputSpec(
            views={"local": View("frame")},
            window=window,
            channels=channels,
            mean=default_mean(channels),
            std=default_std(channels),
            frame=math.ceil(frame / DIVISOR) * DIVISOR,
            min_side=DIVISOR,
            divisor=DIVISOR,
        )
        self.recipe = Recipe(
            stages=(Stage(10_000, 0.01),), batch_size=3, schedule="poly"
        )
        self.encoder = make_hrnet(encoder, channels, 8, pretrained)
        inputs = sum(self.encoder.feature_info.channels())
        self.auxiliary = auxiliary_head(inputs, width, classes)
        self.reduce = ConvNormAct(inputs, width, 1)
        self.lrd = LongRangeDependency(width) if long_range else nn.Identity()
        self.ecr = CrossCorrelation(width, share) if share else None
        self.border_weight = border_weight
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, batch: Batch) -> Outputs:
        image = batch.views["local"]
        features = concatenate_maps(self.encoder(image))
        auxiliary = self.auxiliary(features)
        features = self.lrd(self.reduce(features))
        if self.ecr is not None:
            features = self.ecr(features, auxiliary)
        outputs = {"logits": _resized(self.classifier(features), image)}
        if self.training:
            outputs["auxiliary"] = _resized(auxiliary, image)
        return outputs

    def forward_banded(self, batch: Batch, rows: int) -> Tensor:
        """Return the logits at an eighth of the frame's sides, in blocks of rows.

        HRNet's own branches are computed whole: they are small at output stride 8.
        """
        image, device = batch.views["local"], next(self.parameters()).device
        net = self.encoder
        few = rows // EIGHTH

        def stem(_: RowBlock, part: Tensor) -> list[Tensor]:
            part = net.act1(net.bn1(net.conv1(part)))
            part = net.layer1(net.act2(net.bn2(net.conv2(part))))
            return [t(part) for t in net.transition1]

        maps = apply_banded(
            stem, [(image, 1)], (8, 16), rows=rows, reach=STEM, device=device
        )
        maps = net.stage2([m.to(device) for m in maps])
        for transition, stage in (
            (net.transition2, net.stage3),
            (net.transition3, net.stage4),
        ):
            maps = stage(
                [
                    maps[i] if isinstance(t, torch.nn.Identity) else t(maps[-1])
                    for i, t in enumerate(transition)
                ]
            )
        maps = [m.to(image.device) for m in maps]

        def reduce(_: RowBlock, *parts: Tensor) -> list[Tensor]:
            features = concatenate_maps(list(parts))
            return [self.auxiliary(features), self.reduce(features)]

        branches = list(zip(maps, (1, 2, 4, 8), strict=True))
        auxiliary, features = apply_banded(
            reduce, branches, (1, 1), rows=few, reach=JOINED, device=device
        )
        del maps, branches
        (features,) = apply_banded(
            lambda _, part: [self.lrd(part)], [(features, 1)], (1,),
            rows=few, reach=LONG, device=device,
        )  # fmt: skip
        if self.ecr is not None:
            self.ecr.forward_banded(features, auxiliary, few, device)
        (logits,) = apply_banded(
            lambda _, part: [self.classifier(part)], [(features, 1)], (1,),
            rows=few, reach=0, device=device,
        )  # fmt: skip
        return logits

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms; ``"loss"`` is eq. 9.

        It is the cross entropy (eq. 8) + 0.4 that of the auxiliary head (eq. 7), both
        weighted by `border_weights`.

        Raises
        ------
        ValueError
            If the batch has no target.
        """
        if batch.target is None:
            raise ValueError("a loss needs a target")
        weight = border_weights(batch.target, self.border_weight)
        main = cross_entropy(outputs["logits"], batch.target, weight)
        if "auxiliary" not in outputs:
            return {"loss": main}
        auxiliary = cross_entropy(outputs["auxiliary"], batch.target, weight)
        return {
            "loss": main + 0.4 * auxiliary,
            "segmentation": main,
            "auxiliary": auxiliary,
        }


class LongRangeDependency(nn.Module):
    """LRD module (eq. 1): kernels of 5, 7, 15 and 31 pixels on (N, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(width, width, 1)
        self.dense = ConvNormAct(width, width, 5)
        self.large = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(width, width, kernel, groups=width),
                ConvNormAct(width, width, 1),
            )
            for kernel in KERNELS
        )
        self.fuse = ConvNormAct((2 + len(KERNELS)) * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        near = self.dense(self.first(features))
        far = [branch(near) for branch in self.large]
        fused: Tensor = self.fuse(torch.cat([features, near, *far], dim=1))
        return fused


class CrossCorrelation(nn.Module):
    """ECR module (eq. 2 to 5): hard pixels attend to all; the others stay unchanged."""

    def __init__(self, width: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.attention = EfficientAttention(width, width, width)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (N, width, h, w) features, from features and (N, K, h, w) logits."""
        where = hardest(logits.detach(), self.share)[:, None]
        where = where.expand(-1, features.shape[1], -1)  # N, width, n
        flat = features.flatten(2)
        found = self.attention(features, flat.gather(2, where)[..., None])[..., 0]
        changed = flat.scatter(2, where, found.to(flat.dtype))
        return changed.view_as(features)

    def forward_banded(
        self, features: Tensor, logits: Tensor, rows: int, device: torch.device
    ) -> None:
        """Apply ``forward`` in place, in blocks of rows.

        A first loop computes the context of all pixels, a second one the hard pixels.

        Parameters
        ----------
        features
            (N, width, h, w) float in main memory; changed in place.
        logits
            (N, K, h, w) float logits of the auxiliary head.
        rows
            Rows of a block, at least 1.
        device
            Device that computes each block.
        """
        attention = self.attention
        # weights of one in a million pixels are too small for 16 bits
        highest = total = context = torch.zeros(())
        for band in row_blocks(features.shape[-2], rows, 0, 1):
            part = features[:, :, band.first : band.last].to(device)
            keys = attention.keys(part).flatten(2).float()
            values = attention.values(part).flatten(2).float().transpose(1, 2)
            most = keys.amax(2, keepdim=True)
            if band.first:
                most = torch.maximum(most, highest)
                shrunk = (highest - most).exp()
                total, context = total * shrunk, context * shrunk
            weights = (keys - most).exp()
            with no_autocast(values):
                found = weights @ values
            if band.first:
                total, context = total + weights.sum(2, keepdim=True), context + found
            else:
                total, context = weights.sum(2, keepdim=True), found
            highest = most
        context = (context / total).transpose(1, 2)
        flat = features.view(*features.shape[:2], -1)
        where = hardest(logits, self.share)
        count = rows * features.shape[-1]
        for first in range(0, where.shape[1], count):
            places = where[:, None, first : first + count]
            places = places.expand(-1, features.shape[1], -1)
            asking = flat.gather(2, places).to(device)[..., None]
            queries = attention.queries(asking).flatten(2)
            with no_autocast(context):
                answer = context @ queries.float().softmax(dim=1)
            answer = attention.reprojection(answer[..., None]) + asking
            flat.scatter_(2, places, answer[..., 0].to(flat))


def hardest(logits: Tensor, share: float) -> Tensor:
    """Return the pixels with the smallest margin between the two best logits (eq. 2).

    Parameters
    ----------
    logits
        (N, K, h, w) float.
    share
        Fraction of the pixels, above 0 and at most 1; their number is rounded up.

    Returns
    -------
    Tensor
        (N, n) int64 indices into the flattened h x w, unordered.
    """
    flat = logits.float().flatten(2)
    count = max(1, math.ceil(round(share * flat.shape[2], 6)))  # 0.1 * 30 is above 3
    if flat.shape[1] == 1:  # one class: distance from the decision threshold
        margin = flat[:, 0].abs()
    else:
        best = flat.topk(2, dim=1).values
        margin = best[:, 0] - best[:, 1]
    return margin.topk(count, dim=1, largest=False, sorted=False).indices


def _resized(logits: Tensor, image: Tensor) -> Tensor:
    size = image.shape[-2:]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _check(window: int, frame: int, share: float) -> None:
    if window < DIVISOR or window % DIVISOR:
        near = max(1, round(window / DIVISOR)) * DIVISOR
        raise CheckpointError(
            f"A training crop of {window} pixels does not fit EHSNet: it must be a "
            f"multiple of {DIVISOR}.",
            f"Take {near}.",
        )
    if frame < 1:
        raise CheckpointError(
            f"A frame of {frame} pixels is impossible.", "Take the training crop's."
        )
    if not 0 <= share <= 1:
        raise CheckpointError(
            f"A share of {share:g} hard pixels is impossible.",
            "Take 0 to 1; the paper has 0.1.",
        )
