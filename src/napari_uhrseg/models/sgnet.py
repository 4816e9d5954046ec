"""SGNet: a second, lighter branch for the surroundings at full resolution.

Wang, Lin, Wu, Du: "Toward Real Ultra Image Segmentation: Leveraging Surrounding
Context to Cultivate General Segmentation Model", NeurIPS 2024. Equations by its
numbers. The authors' code is not available.

A segmentation network labels the window (512 pixels). A truncated STDC processes twice
the field of view at the same scale, and attention integrates its features
(blocks/surrounding_branch.py). The part of the window is concatenated with the
network's features before the classifier.

Published (mIoU DeepGlobe / FBP / Inria / Gleason / Cityscapes): DeepLabv3+ ResNet-50
alone 73.22 / 61.85 / 80.88 / 55.45 / 75.24, with SGNet 75.44 / 63.18 / 81.21 / 61.21 /
76.72; on DeepGlobe 0.66 images a second for 1.14, 2187 MB for 1279 (V100, batch 1).
The fast variant: 74.28 on DeepGlobe, 25.59 a second, 2043 MB.

The paper's network is mmsegmentation's DeepLabv3+, here it is that of
segmentation-models-pytorch with the same stride and width. Three things differ:
mmsegmentation's ResNet-50 has a stem of three 3 x 3 convolutions (V1c), here one of
7 x 7; its dropout is 0.1 before the classifier, here 0.5 in the ASPP; and it trains a
further FCN head on the third stage with a loss weight of 0.4. By multiplications this
network takes 1.14 times those of DeepLabv3+ alone; the paper measured 1.73 times the
time (1.14 to 0.66 images a second).

The paper's windows do not overlap; here they do by default, against visible seams.

Decisions that the paper leaves open, with the reason:

[choice] Windows of 8 x 8 cells and one region over the whole map: both readings of the
paper's regions then agree.
[choice] Two blocks (the fast variant's "single" one means there are more), 256
channels after a 1 x 1 convolution, 8 heads, a feed-forward layer of four times the
width with layer norm before it, Swin's relative position bias.
[choice] The map is padded to whole windows. Attention and means ignore the padding.
[choice] Alignment samples once a cell at half-pixel centres, as RoI align does.
[choice] The auxiliary head, for training alone, is a 3 x 3 convolution with batch norm,
ReLU and dropout 0.1, and a 1 x 1; the widened classifier is a 1 x 1 convolution.
[choice] Eq. 6: mean difference of softmax probabilities at the window's resolution,
with gradients to both sides.
[choice] Without labels of the whole surroundings, the auxiliary head is trained on the
window's part.
[choice] The paper's "multi-scale training, flipping, and rotating" are scales of 0.5 to
2, mirroring and quarter turns.
[choice] Poly decay, weight decay 0.01; the paper gives AdamW, 2e-4, 30,000 steps of 8
(10,000 for Inria and Gleason).
[choice] Padding beyond the image is the mean colour.
[choice] The light branch starts from random weights, as no library has STDC's weights;
the paper starts it from ImageNet.

For the fast variant ("ISDNet-style"), the paper states that the local patch is ISDNet's
whole frame and that a single block follows STDC's last stage:

[choice] The segmenter's input has a quarter of the resolution, as in ISDNet. It is
resized bilinearly, so that both branches stay aligned (ISDNet's nearest pixel is off by
1.5 pixels).
[choice] The features are concatenated at the size of the finer ones. Losses are the
same; the surroundings are the frame itself.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.common import (
    OVERLAP_FRACTION,
    auxiliary_head,
    default_mean,
    default_std,
)
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.blocks.smp_network import make_segmenter, separable
from napari_uhrseg.models.blocks.surrounding_branch import (
    STRIDE,
    SurroundingBranch,
    align,
)
from napari_uhrseg.types import InputSpec, Recipe, Stage, View

QUARTER = 4
# stride and width of mmsegmentation's DeepLabv3+, which the paper evaluates; the other
# differences are listed above
PAPERS = {"encoder_output_stride": 8, "decoder_channels": 512}


class SGNet(Segmenter):
    """Segmentation network with a surrounding branch (Wang et al., NeurIPS 2024).

    Section 3.3, eq. 1 to 5, defines the context integration; eq. 7 is the loss.

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1.
    architecture, encoder
        As in :func:`~napari_uhrseg.models.blocks.smp_network.make_segmenter`.
    window
        Side of the window in pixels; for the fast variant, side of a training crop.
    options
        Further arguments of the architecture, as in ``make_segmenter``. ``None``: for
        DeepLabV3Plus the sizes of the paper.
    width, blocks, heads
        Channels, number and attention heads of the context integration blocks (eq. 1
        to 5). ``heads`` divides ``width``. The fast variant has one block. 0 blocks:
        no context integration.
    shallow_width
        Channels of the light branch's first convolution; 32 is STDC1.
    fast
        Label frames: the segmenter at a quarter, the light branch at full resolution.
    auxiliary_weight, consistency_weight
        Weights of the auxiliary loss and of boundary consistency in eq. 7, at least 0.
        With 0 for both there is no auxiliary head.
    frame
        Side in pixels of the fast variant's largest frame, rounded up to the divisor.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If sizes or parts do not match, or the weights are not available.
    """

    training_only_modules: ClassVar[tuple[str, ...]] = ("auxiliary",)
    light_encoders: ClassVar[tuple[str, ...]] = ("surrounding.backbone",)

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        architecture: str = "DeepLabV3Plus",
        encoder: str = "resnet50",
        window: int = 512,
        options: Mapping[str, Any] | None = None,
        width: int = 256,
        blocks: int = 2,
        heads: int = 8,
        shallow_width: int = 32,
        fast: bool = False,
        frame: int = 2448,
        auxiliary_weight: float = 0.4,
        consistency_weight: float = 0.1,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        _check(window, width, blocks, heads, shallow_width, frame)
        if options is None and architecture == "DeepLabV3Plus":
            options = PAPERS
        net = make_segmenter(
            architecture,
            encoder,
            classes,
            channels,
            0 if fast else window,  # a crop of frames is checked below
            options,
            pretrained,
        )
        classifier = separable(net, architecture, "SGNet")
        self.fast = fast
        self.spec = (
            _frames(net.encoder.output_stride, window, frame, channels)
            if fast
            else _windows(window, channels)
        )
        self.recipe = Recipe(
            stages=(Stage(30_000, 2e-4),),
            batch_size=8,
            optimizer="adamw",
            weight_decay=0.01,
            schedule="poly",
            augmentations=("scaling", "rotation"),
        )
        self.encoder, self.decoder = net.encoder, net.decoder
        self.surrounding = SurroundingBranch(
            channels, width, min(1, blocks) if fast else blocks, heads, shallow_width
        )
        features = classifier.in_channels
        self.classifier = nn.Conv2d(features + width, classes, 1)
        self.weights = auxiliary_weight, consistency_weight
        self.auxiliary: nn.Module | None = None
        if any(self.weights):
            self.auxiliary = auxiliary_head(width, width, classes)

    def forward(self, batch: Batch) -> Outputs:
        local = batch.views["local"]
        if self.fast:
            features = self.decoder(self.encoder(_quartered(local)))
            context = self.surrounding(local)
            finer = max(features.shape[-2:], context.shape[-2:])
            both = (_resized(features, finer), _resized(context, finer))
        else:
            context = self.surrounding(batch.views["surrounding"])
            features = self.decoder(self.encoder(local))
            boxes = batch.boxes["surrounding"]
            both = (features, align(context, boxes, features.shape[-2:]))
        logits = self.classifier(torch.cat(both, dim=1))
        outputs = {"logits": _resized(logits, local.shape[-2:])}
        if self.training and self.auxiliary is not None:
            outputs["surrounding"] = self.auxiliary(context)
        return outputs

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms; ``"loss"`` is eq. 7.

        It is the cross entropy, and the weighted cross entropy of the surroundings and
        boundary consistency (eq. 6).
        """
        segmentation = cross_entropy(outputs["logits"], batch.target)
        if "surrounding" not in outputs:
            return {"loss": segmentation}
        around, logits = outputs["surrounding"].float(), outputs["logits"].float()
        size = logits.shape[-2:]
        window = (
            _resized(around, size)
            if self.fast
            else align(around, batch.boxes["surrounding"], size)
        )
        known = batch.surrounding_target
        auxiliary = (
            cross_entropy(window, batch.target)
            if known is None
            else cross_entropy(_resized(around, known.shape[-2:]), known)
        )
        consistency = (window.softmax(dim=1) - logits.softmax(dim=1)).abs().mean()
        first, second = self.weights
        return {
            "loss": segmentation + first * auxiliary + second * consistency,
            "segmentation": segmentation,
            "auxiliary": auxiliary,
            "consistency": consistency,
        }


def _windows(window: int, channels: int) -> InputSpec:
    return InputSpec(
        views={
            "local": View(window, window),
            "surrounding": View(2 * window, 2 * window, off_centre=True),
        },
        window=window,
        channels=channels,
        mean=default_mean(channels),
        std=default_std(channels),
        padding="zero",
        window_overlap=window // OVERLAP_FRACTION,
        merge="taper",
    )


def _frames(stride: int, window: int, frame: int, channels: int) -> InputSpec:
    """Return the spec of the fast variant; sides fit both branches."""
    divisor = math.lcm(QUARTER * stride, STRIDE)
    if window % divisor:
        near = max(1, round(window / divisor)) * divisor
        raise CheckpointError(
            f"A training crop of {window} pixels does not fit: it must be a multiple "
            f"of {divisor}.",
            f"Take {near}.",
        )
    return InputSpec(
        views={"local": View("frame")},
        window=window,
        channels=channels,
        mean=default_mean(channels),
        std=default_std(channels),
        padding="zero",
        frame=math.ceil(frame / divisor) * divisor,
        min_side=math.ceil(64 / divisor) * divisor,
        divisor=divisor,
    )


def _quartered(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    return _resized(image, (height // QUARTER, width // QUARTER))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    height, width = size
    if maps.shape[-2:] == (height, width):
        return maps
    return F.interpolate(
        maps, size=(height, width), mode="bilinear", align_corners=False
    )


def _check(
    window: int, width: int, blocks: int, heads: int, shallow_width: int, frame: int
) -> None:
    if min(window, width, blocks + 1, heads, shallow_width, frame) < 1:
        raise CheckpointError(
            "Sizes and numbers of parts must be at least 1.",
            "Leave them out to have the paper's.",
        )
    if width % heads:
        raise CheckpointError(
            f"{width} channels cannot be shared by {heads} heads of attention.",
            f"Take a width that is a multiple of {heads}.",
        )
