"""SCPSeg: surrounding context squeezed into the border of the window.

Liu, Duan, Kang, Li: "Squeezing Context into Patches: Towards Memory-Efficient
Ultra-High Resolution Semantic Segmentation", IJCAI 2025. Equations by its numbers.

G is the side of the patch that is read, L that of the window at its centre, and D that
of the squeezed window. The paper has (512, 256, 192), for DeepGlobe (1024, 512, 384).
Published (test sets, DeepLabv3+ ResNet-18 at stride 8): mIoU 87.6 Potsdam, 71.9
BLU, 74.0 DeepGlobe, 78.6 Inria (which by its F1 is the building class alone).

The paper's windows do not overlap; here they do by default, against visible seams.

The authors' code is not public. Decisions that the paper leaves open, with the reason:

[choice] Cells are resized bilinearly without antialiasing, torch's default for
"resize"; ``antialias=True`` changes that. Each cell is resized on its own (eq. 1 to 3).
[choice] Padding beyond the image is reflection, which creates no edges.
[choice] Logits are cropped to the centre first and then resized to L: L * L / D is
not an integer, so the whole squeezed map cannot be resized to align its centre.
If the crop would lie between two pixels of the map, the map is resized to L first.
[choice] Cross entropy on the window only, as the paper names no label for the border.
[choice] The super-resolution decoder (eq. 5), "several convolutions and
de-convolutions", has a 3 x 3 convolution, one 4 x 4 stride-2 transposed convolution for
each halving of the encoder, a 3 x 3 and a 1 x 1. It predicts normalised values. The
window's part of the squeezed map is resized to L before the last two convolutions,
because L / D is no power of two: the values at full resolution are learned (eq. 6).
[choice] Eq. 8 is read as the mean over the k^2 x k^2 similarities of all windows;
windows do not overlap (``lfa_stride``), the last one is moved inward. Features of
the decoder are those of the same scale as the segmentation features.
[choice] No gradient flows through the decoder's similarities, as in ISDNet's code; the
text says "transfer". ``mutual=True`` enables the gradient.
[choice] SGD with momentum 0.9 and weight decay 5e-4; the paper gives rate 0.01,
cosine, 40,000 steps of 16, ImageNet weights.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.common import (
    OVERLAP_FRACTION,
    default_mean,
    default_std,
    no_autocast,
)
from napari_uhrseg.models.blocks.context_squeezing import squeeze
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.blocks.smp_network import make_segmenter, separable
from napari_uhrseg.types import InputSpec, Recipe, Stage, View


class SCPSeg(Segmenter):
    """Segmentation network with context squeezing (Liu et al., IJCAI 2025, eq. 1 to 9).

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1.
    architecture, encoder
        As in :func:`~napari_uhrseg.models.blocks.smp_network.make_segmenter`.
    patch, window, inner
        G, L and D of section 3.2, in pixels. G >= L >= D; differences are even.
    options
        Further arguments of the architecture, as in ``make_segmenter``.
    sr_width
        Channels of the super-resolution decoder (eq. 5) at a quarter of the resolution
        and below; half as many above.
    antialias
        Antialias the resizing of the cells (eq. 1 to 3).
    lfa_window, lfa_stride
        Side and stride of the windows of local feature alignment (eq. 7 and 8), in
        pixels of the feature map. The paper has windows of 7.
    sr_weight, alignment_weight
        Weights of super-resolution and of feature alignment in eq. 9, at least 0. The
        paper has 0.5 for both. With 0 for both there is no super-resolution decoder.
    mutual
        Let the gradient of eq. 8 flow through the super-resolution decoder too.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If sizes or parts do not match, or the weights are not available.
    """

    training_only_modules: ClassVar[tuple[str, ...]] = ("sr",)

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        architecture: str = "DeepLabV3Plus",
        encoder: str = "resnet18",
        patch: int = 512,
        window: int = 256,
        inner: int = 192,
        options: Mapping[str, Any] | None = None,
        sr_width: int = 128,
        antialias: bool = False,
        lfa_window: int = 7,
        lfa_stride: int = 7,
        mutual: bool = False,
        sr_weight: float = 0.5,
        alignment_weight: float = 0.5,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(patch, window, inner)
        self.spec = InputSpec(
            views={"surrounding": View(patch, patch)},
            window=window,
            channels=channels,
            mean=default_mean(channels),
            std=default_std(channels),
            window_overlap=window // OVERLAP_FRACTION,
            merge="taper",
        )
        batch_size = 16 if window <= 256 else 8
        self.recipe = Recipe(stages=(Stage(40_000, 0.01),), batch_size=batch_size)
        self.inner, self.antialias, self.mutual = inner, antialias, mutual
        self.lfa_window, self.lfa_stride = lfa_window, lfa_stride
        self.sr_weight, self.alignment_weight = sr_weight, alignment_weight
        net = make_segmenter(
            architecture, encoder, classes, channels, window, options, pretrained
        )
        classifier = separable(net, architecture, "SCPSeg")
        self.encoder, self.decoder = net.encoder, net.decoder
        self.classifier = classifier  # upsampling is done here
        self.sr: SuperResolution | None = None
        if sr_weight or alignment_weight:
            inputs, stride = net.encoder.out_channels[-1], net.encoder.output_stride
            self.sr = SuperResolution(inputs, channels, stride, sr_width)

    def forward(self, batch: Batch) -> Outputs:
        patch = batch.views["surrounding"]
        squeezed = squeeze(patch, self.spec.window, self.inner, self.antialias)
        features = self.encoder(squeezed)
        decoded = self.decoder(features)
        outputs = {"logits": self._centre(self.classifier(decoded), resize=True)}
        if self.training and self.sr is not None:
            maps = self.sr(features[-1])
            same = min(maps, key=lambda m: abs(m.shape[-1] - decoded.shape[-1]))
            if same.shape[-1] != decoded.shape[-1]:
                same = _resized(same, decoded.shape[-1])
            fine = self._centre(maps[-1], resize=True)
            outputs["sr_image"] = self.sr.image(self.sr.last(fine))
            outputs["sr_features"] = self._centre(same)
            outputs["ss_features"] = self._centre(decoded)
        return outputs

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms; ``"loss"`` is eq. 9.

        It is the cross entropy, and the weighted super-resolution (eq. 6) and feature
        alignment (eq. 8).
        """
        segmentation = cross_entropy(outputs["logits"], batch.target)
        if "sr_image" not in outputs:
            return {"loss": segmentation}
        local = self._window(batch.views["surrounding"])
        sr = (outputs["sr_image"].float() - local).abs().mean()
        guide = outputs["sr_features"]
        lfa = local_feature_alignment(
            guide if self.mutual else guide.detach(),
            outputs["ss_features"],
            self.lfa_window,
            self.lfa_stride,
        )
        return {
            "loss": segmentation + self.sr_weight * sr + self.alignment_weight * lfa,
            "segmentation": segmentation,
            "super_resolution": sr,
            "feature_alignment": lfa,
        }

    def _window(self, patch: Tensor) -> Tensor:
        """Return the window within the patch, at full resolution."""
        side = self.spec.window
        margin = (patch.shape[-1] - side) // 2
        return patch[..., margin : margin + side, margin : margin + side]

    def _centre(self, squeezed: Tensor, resize: bool = False) -> Tensor:
        """Return the window's part of a squeezed map; of side L if resized."""
        side = self.spec.window
        if squeezed.shape[-1] * (side - self.inner) % (2 * side):
            squeezed = _resized(squeezed, side)
        size = squeezed.shape[-1]
        margin = size * (side - self.inner) // (2 * side)
        centre = squeezed[..., margin : size - margin, margin : size - margin]
        return _resized(centre, side) if resize else centre


class SuperResolution(nn.Module):
    """Super-resolution decoder h_SR (eq. 5): from encoder features to an image.

    ``last`` and ``image`` compute the image from the last features, at any resolution.

    Parameters
    ----------
    inputs
        Channels of the encoder's last features.
    channels
        Bands of the image.
    stride
        Output stride of the encoder, a power of two.
    width
        Channels at a quarter of the resolution and below; half as many above.
    """

    def __init__(self, inputs: int, channels: int, stride: int, width: int) -> None:
        super().__init__()
        narrow = max(1, width // 2)
        self.first = _conv(nn.Conv2d(inputs, width, 3, padding=1, bias=False))
        self.steps = nn.ModuleList()
        before = width
        while stride > 1:
            stride //= 2
            after = width if stride >= 4 else narrow
            up = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
            self.steps.append(_conv(up))
            before = after
        self.last = _conv(nn.Conv2d(before, narrow, 3, padding=1, bias=False))
        self.image = nn.Conv2d(narrow, channels, 1)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the features of each scale, up to the squeezed window's."""
        maps = [self.first(features)]
        for step in self.steps:
            maps.append(step(maps[-1]))
        return maps


def local_feature_alignment(
    guide: Tensor, features: Tensor, window: int = 7, stride: int = 7
) -> Tensor:
    """Return the local feature alignment loss, eq. 7 and 8, in float32.

    It is the mean absolute difference of the cosine similarities of pixels within
    windows.

    Parameters
    ----------
    guide
        (N, C, s, s) features of the super-resolution decoder.
    features
        (N, C', s, s) features of the segmentation decoder.
    window
        k, the side of a window in pixels of the map.
    stride
        Distance of two windows in pixels of the map. The last window is moved inward.

    Returns
    -------
    Tensor
        A scalar, at least 0.
    """
    with no_autocast(features):
        return (_similar(guide, window, stride) - _similar(features, window, stride)
                ).abs().mean()  # fmt: skip


def _similar(features: Tensor, window: int, stride: int) -> Tensor:
    """Return (N, windows, k^2, k^2) cosine similarities of a window's pixels."""
    side = features.shape[-1]
    window = min(window, side)
    starts = [*range(0, side - window, stride), side - window]
    places = torch.tensor(starts, device=features.device)[:, None] + torch.arange(
        window, device=features.device
    )
    unit = F.normalize(features.float(), dim=1)
    cut = unit[:, :, places][..., places]  # N, C, rows, k, columns, k
    n, c, rows, k, columns, _ = cut.shape
    pixels = cut.permute(0, 2, 4, 1, 3, 5).reshape(n, rows * columns, c, k * k)
    return pixels.transpose(-1, -2) @ pixels


def _conv(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(
        layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace=True)
    )


def _resized(maps: Tensor, side: int) -> Tensor:
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)


def _check_sizes(patch: int, window: int, inner: int) -> None:
    fits = (
        0 < inner <= window <= patch
        and (patch - window) % 2 == 0
        and (window - inner) % 2 == 0
        and (patch > window or inner == window)
    )
    if not fits:
        raise CheckpointError(
            f"Patch {patch}, window {window} and inner {inner} do not fit.",
            "They must not grow in that order and differ by even numbers, for example "
            "512, 256 and 192.",
        )
