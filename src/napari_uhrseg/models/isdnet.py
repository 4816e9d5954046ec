"""ISDNet: a light branch at full resolution and a deep one at a quarter.

Guo et al., "ISDNet: Integrating Shallow and Deep Networks for Efficient
Ultra-high Resolution Segmentation", CVPR 2022. Equations by its numbers. Where
paper and published code (Apache-2.0) differ, this module follows the code, whose
checkpoints and logits are the reference; such points are marked [code].

::

    frame --- nearest, 1/4 ---> ResNet-18 at stride 8 -> ASPP -> D     1/32
      +------ Laplacian pyramid: H_0, H_1 -> STDC -> S8, S16           1/8, 1/16
    F16 = RAF(S16, D),  F8 = RAF(S8, F16),  F8 -> logits -> the frame's size

The input is the frame alone, with any sides of 64 pixels and more. Because of pooling
over the frame (ASPP, RAF), a prediction depends on the borders of the frame. Batch norm
after that pooling requires two crops per batch in training.

Published (whole image, RTX 2080 Ti, ResNet-18): mIoU 73.30 DeepGlobe (27.70 images per
second, 1948 MB), 74.23 Inria (by the authors' notes the building class alone; 6.90,
4680 MB), 76.02 Cityscapes (50.79, 1510 MB). Users report 72.3 on DeepGlobe with the
published script. The speed script scales images by 0.8 by default.

Weights have the names of the published checkpoint, so that an importer only has to drop
the STDC's second names, ``refine_head.stdc_net.x2``, ``x4``, ``x8`` and ``x16``. For
ResNet-18, the keys ``backbone.*``, ``decode_head.*``, ``refine_head.*`` and
``auxiliary_head.*`` are otherwise the same.

[code] The deep branch's input is resized to the nearest pixel.
[code] Two levels of residuals of the normalised image: six channels, H_0 first, then
the resized H_1 (eq. 1 leaves the number open).
[code] RAF (eq. 2 to 5): batch norm after the pooled 1 x 1 convolution, a ReLU after
both fully connected layers, one factor for each branch, a convolution after the
resized context and one after the sum.
[code] There are five segmentation terms, eq. 8 has two: the logits, the ASPP head, each
RAF's context (the names of the two heads are swapped), and 0.4 of a head on layer3.
[code] The target of super-resolution is H_0 + H_1; in eq. 6 it is the image.
[code] Eq. 7 applies to maps whose channels have unit length over space. No gradient
flows through the super-resolution features.
[code] Rate 0.01 (the paper's 0.001 is an error according to the authors).
[choice] Cross entropy is the mean over the labelled pixels, as everywhere here; the
published code averages over all pixels, so that sparse labels have little effect.
[choice] Quarter turns and mirroring; the published angles are any of 90 to 270 degrees.
Crops of which one class covers more than 0.75 are not drawn again, as published.
[choice] The published rate ends at 1e-4, here at 0 as in every schedule.
[choice] The STDC starts from random weights: its ImageNet file has no stable address.
[choice] ``width`` below 128 and other encoders allow small networks. The fusion's
widths follow. RAF requires 2 width = r^2 with r groups that divide it.
"""

from math import isqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.aspp import ASPPHead
from napari_uhrseg.models.blocks.banded import RowBlock, apply_banded, resize_rows
from napari_uhrseg.models.blocks.common import (
    ConvBnReLU,
    default_mean,
    default_std,
)
from napari_uhrseg.models.blocks.laplacian import LaplacianPyramid
from napari_uhrseg.models.blocks.losses import cross_entropy, structure_distillation
from napari_uhrseg.models.blocks.raf import RAF, resized
from napari_uhrseg.models.blocks.stdc import TruncatedSTDC
from napari_uhrseg.models.blocks.timm_features import make_encoder
from napari_uhrseg.types import InputSpec, Recipe, Stage, View

MINIMUM = 64  # smaller maps cannot be reflected at their borders
EIGHTH = 8
# rows that a result depends on, in rows of the step's first input
SHALLOW = 208  # pyramid, STDC to a sixteenth and one convolution there: 191
FUSED = 4  # three 3 x 3 convolutions

# loss terms by the published names, with their outputs and weights
SEGMENTATION = {
    "refine.loss_seg": ("logits", 1.0),
    "decode.loss_seg": ("deep_logits", 1.0),
    "aux_1.loss_seg": ("aux_16", 1.0),
    "aux_2.loss_seg": ("aux_8", 1.0),
    "aux.loss_seg": ("aux_layer3", 0.4),
}


class ISDNet(Segmenter):
    """Network for whole frames (Guo et al., CVPR 2022, section 3, eq. 1 to 8).

    Frames are (N, C, H, W) with any sides of 64 pixels and more.

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1.
    encoder
        Encoder of the deep branch, as in
        :func:`~napari_uhrseg.models.blocks.timm_features.make_encoder`;
        ``resnet50c`` is the ResNet-50 of mmsegmentation.
    width
        C, the channels of the fused maps (eq. 2): 8, 32, 72 or 128. The paper has 128.
    window
        Side of a training crop in pixels, at least 64.
    frame
        Side of the largest frame in pixels, at least 64.
    sr_weight, structure_weight
        Weights of super-resolution (eq. 6) and structure distillation (eq. 7), at
        least 0. With 0 for both there is no super-resolution head.
    residuals
        Feed the shallow branch the residuals (eq. 1). Otherwise it gets the image, as
        in the ablation of Table 7.
    relation
        Fuse the branches with relation-aware fusion (eq. 2 to 5). Otherwise their maps
        are added, as in the ablation of Table 6.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If the width or a side is invalid, or the encoder or its weights are not
        available.
    """

    supports_banded: ClassVar[bool] = True
    training_only_modules: ClassVar[tuple[str, ...]] = (
        "decode_head.conv_seg",
        "auxiliary_head",
        "refine_head.sr_decoder",
        "refine_head.conv_seg_aux_16",
        "refine_head.conv_seg_aux_8",
    )

    encoder_prefixes: ClassVar[tuple[str, ...]] = ("backbone.",)
    pretrained_modules: ClassVar[tuple[str, ...]] = ("backbone",)
    light_encoders: ClassVar[tuple[str, ...]] = ("refine_head.stdc_net",)

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        encoder: str = "resnet18_v1c",
        width: int = 128,
        window: int = 1224,
        frame: int = 2448,
        sr_weight: float = 0.1,
        structure_weight: float = 1.0,
        residuals: bool = True,
        relation: bool = True,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        _check(width, window, frame)
        self.spec = InputSpec(
            views={"local": View("frame")},
            window=window,
            frame=frame,
            min_side=MINIMUM,
            channels=channels,
            mean=default_mean(channels),
            std=default_std(channels),
        )
        self.recipe = Recipe(
            (Stage(80_000, 0.01),),
            batch_size=8,
            schedule="poly",
            augmentations=("photometric_distortion", "rotation"),
        )
        self.backbone, widths = make_encoder(encoder, channels, pretrained)
        self.decode_head = ASPPHead(widths[-1], width, classes)
        self.refine_head = RefineHead(classes, channels, width, residuals, relation)
        self.weights = sr_weight, structure_weight
        if not any(self.weights):
            self.refine_head.sr_decoder = None
        self.auxiliary_head: FCNHead | None = FCNHead(widths[-2], width // 2, classes)

    def forward(self, batch: Batch) -> Outputs:
        image = batch.views["local"]
        height, width = image.shape[-2:]
        maps = self.backbone(F.interpolate(image, size=(height // 4, width // 4)))
        deep = self.decode_head(maps[-1])
        outputs: Outputs = self.refine_head(image, deep, self.training)
        if self.training:
            outputs["deep"] = deep
            found = self.decode_head.classify(deep)
            if found is not None:
                outputs["deep_logits"] = found
            if self.auxiliary_head is not None:
                outputs["aux_layer3"] = self.auxiliary_head(maps[-2])
        outputs["logits"] = resized(outputs["logits"], image)
        return outputs

    def forward_banded(self, batch: Batch, rows: int) -> Tensor:
        """Return the logits at an eighth of the frame's sides, in blocks of rows.

        Only the shallow branch uses blocks: the input of the deep one has a sixteenth
        of the pixels. Pooled values are sums over all blocks.
        """
        image, device = batch.views["local"], next(self.parameters()).device
        height, width = image.shape[-2:]
        head = self.refine_head
        small = F.interpolate(image, size=(height // 4, width // 4)).to(device)
        deep = self.decode_head(self.backbone(small)[-1])

        def shallow(band: RowBlock, part: Tensor) -> list[Tensor]:
            if head.residuals:
                fine, coarse = head.pyramid(part)
                coarse = resize_rows(
                    coarse,
                    (height, width),
                    (band.low, band.high),
                    above=band.low // 2,
                    height=-(-height // 2),
                )
                part = torch.cat((fine, coarse), dim=1)
            eighth, sixteenth = head.stdc_net(part)
            return [
                head.fuse8.spatial_att.conv_bn_relu(eighth),
                head.fuse16.spatial_att.conv_bn_relu(sixteenth),
            ]

        eighth, sixteenth = apply_banded(
            shallow, [(image, 1)], (8, 16), rows=rows, reach=SHALLOW, device=device
        )
        sixteenth = sixteenth.to(device)
        attention = head.fuse16.spatial_att
        _, fused = head.fuse16.fuse(
            (sixteenth, attention.vector(sixteenth)), head.fuse16.context_att(deep)
        )
        del sixteenth, deep
        raf = head.fuse8
        context, vector = raf.context_att(fused)
        average = eighth.float().mean((2, 3), keepdim=True).to(device, eighth.dtype)
        spatial, around = raf.factors(raf.spatial_att.vector(average), vector)
        context = context * around
        size = (eighth.shape[-2], eighth.shape[-1])

        def fuse(band: RowBlock, part: Tensor) -> list[Tensor]:
            more = raf.context_head(resize_rows(context, size, (band.low, band.high)))
            return [head.conv_seg(raf.smooth(part * spatial + more))]

        (logits,) = apply_banded(
            fuse, [(eighth, 1)], (1,), rows=rows // EIGHTH, reach=FUSED, device=device
        )
        return logits

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of eq. 8 by their published names, and the sum."""
        image = batch.views["local"]
        terms = {
            name: weight * cross_entropy(resized(outputs[output], image), batch.target)
            for name, (output, weight) in SEGMENTATION.items()
            if output in outputs
        }
        if "sr_image" in outputs:
            detail = resized(outputs["sr_image"].float(), image)
            guide = resized(outputs["sr_features"], outputs["deep"])
            structure = structure_distillation(outputs["deep"], guide)
            first, second = self.weights
            terms["aux_3.recon_losses"] = first * F.mse_loss(
                detail, outputs["residual"]
            )
            terms["aux_4.fa_loss"] = second * structure
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}


class RefineHead(nn.Module):
    """Shallow branch (eq. 1), both fusions (eq. 2 to 5), and their heads.

    Parameters
    ----------
    classes, channels, width
        Channels of the logits, of the image, and of the fused maps.
    residuals, relation
        As in `ISDNet`.
    """

    def __init__(
        self, classes: int, channels: int, width: int, residuals: bool, relation: bool
    ) -> None:
        super().__init__()
        self.residuals = residuals
        self.pyramid = LaplacianPyramid(channels)
        self.stdc_net = TruncatedSTDC((1 + residuals) * channels, width // 4)
        eighth, sixteenth = self.stdc_net.out_channels
        self.fuse16 = RAF(sixteenth, width, relation)
        self.fuse8 = RAF(eighth, width, relation)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = Head(width, classes)
        self.conv_seg_aux_16: Head | None = Head(width, classes)
        self.conv_seg_aux_8: Head | None = Head(width, classes)
        self.sr_decoder: SuperResolution | None = SuperResolution(width, channels)

    def forward(self, image: Tensor, deep: Tensor, training: bool) -> Outputs:
        """Return ``"logits"`` at an eighth of the frame's sides.

        Parameters
        ----------
        image
            (N, C, H, W) float, the normalised frames.
        deep
            (N, width, H / 32, W / 32) float, D of the deep branch.
        training
            Also return the outputs of the other loss terms.
        """
        detail = [image]
        if self.residuals or (training and self.sr_decoder is not None):
            detail = [resized(level, image) for level in self.pyramid(image)]
        shallow = torch.cat(detail, dim=1) if self.residuals else image
        eighth, sixteenth = self.stdc_net(shallow)
        context16, fused16 = self.fuse16(sixteenth, deep)
        context8, fused8 = self.fuse8(eighth, fused16)
        outputs = {"logits": self.conv_seg(self.dropout(fused8))}
        if training and self.conv_seg_aux_16 is not None:
            outputs["aux_16"] = self.conv_seg_aux_16(context8)  # crossed, as published
        if training and self.conv_seg_aux_8 is not None:
            outputs["aux_8"] = self.conv_seg_aux_8(context16)
        if training and self.sr_decoder is not None:
            outputs["sr_image"], outputs["sr_features"] = self.sr_decoder(deep)
            outputs["residual"] = torch.stack(detail).sum(dim=0)
        return outputs


class Head(nn.Module):
    """Segmentation head: a 3 x 3 convolution to half the width, and a 1 x 1."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.conv_bn_relu = ConvBnReLU(width, width // 2)
        self.conv_out = nn.Conv2d(width // 2, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_out(self.conv_bn_relu(x))
        return out


class FCNHead(nn.Module):
    """Auxiliary head on the encoder's last map but one."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvBnReLU(inputs, width))
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_seg(self.dropout(self.convs(x)))
        return out


class SuperResolution(nn.Module):
    """Super-resolution head (eq. 6): from D to image detail at 16 times its sides."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBnReLU(width, width // 2)
        self.conv2 = ConvBnReLU(width // 2, width // 2)
        self.conv3 = ConvBnReLU(width // 2, width)
        self.conv_sr = Head(width, channels)

    def forward(self, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image detail, and the features from which it is computed."""
        x = self.conv1(F.interpolate(deep, scale_factor=4))
        x = self.conv2(F.interpolate(x, scale_factor=2))
        x = self.conv3(F.interpolate(x, scale_factor=2))
        return self.conv_sr(x), x


def _check(width: int, window: int, frame: int) -> None:
    if width < 8 or isqrt(2 * width) ** 2 != 2 * width or width % 8:
        raise CheckpointError(
            f"ISDNet cannot have a width of {width}: its fusion groups channels so "
            "that twice the width is a square, and its shallow branch needs eighths.",
            "Take 8, 32, 72 or 128.",
        )
    if min(window, frame) < MINIMUM:
        raise CheckpointError(
            f"ISDNet cannot see a window of {window} pixels or a frame of {frame}: "
            f"the smallest side is {MINIMUM}.",
            f"Take a window and a frame of {MINIMUM} pixels and more.",
        )
