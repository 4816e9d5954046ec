"""Pixel classifier: a linear classifier on fixed features of each pixel.

The method of ilastik (Berg et al., Nature Methods 2019) and of convpaint (Hinderling et
al. 2024): features that are not trained describe each pixel, and a small classifier
maps them to classes. It is trained within about a second from strokes.

::

    image --+-- filters (colour, gradient, Hessian, structure tensor), 4 scales ---+
            |                                                                      |
            +-- frozen encoder with ImageNet weights, strides 2, 4, 8 and 16 ------+
            |                                                                      |
            +-- half the resolution -- the same encoder ---------------------------+
                                                                                   |
        each map standardised; 1 x 1 convolution to the classes; enlarged (bilinear)
        and added -> logits

The classifier is linear, so that each map goes through it at its own resolution. The
result equals that of the concatenated features of every pixel, but only the classes
have full resolution.

[choice] The filters are those of scikit-image's ``multiscale_basic_features`` with
standard deviations of 1, 2, 4 and 8 pixels, on each band; 4 and 8 are computed at half
and at a quarter of the resolution. The eigenvalues of the structure tensor of the mean
of the bands are added.
[choice] Linear, not a forest: on strokes of a few pixels it is at least as accurate on
these features (``docs/finetuning.md``), and the network stays differentiable, so that
training, fine-tuning and further classes work as for every other method.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, PixelSegmenter
from napari_uhrseg.models.blocks.common import default_mean, default_std, no_autocast
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.blocks.timm_features import make_truncated
from napari_uhrseg.types import InputSpec, Recipe, Stage, View

STRIDES = (2, 4, 8, 16)  # of the encoder's maps
REDUCTIONS = (1, 2)  # of the image before the encoder
FILTERS = (
    (1, 1.0),
    (1, 2.0),
    (2, 2.0),
    (4, 2.0),
)  # stride, and deviation in its pixels
LAYOUT = (
    *(stride for stride, _ in FILTERS),
    *(reduction * stride for reduction in REDUCTIONS for stride in STRIDES),
)  # strides of all maps
MARGIN = 64  # pixels around a window that its features see; a multiple of the strides


class PixelClassifier(PixelSegmenter):
    """Linear classifier on features of pixels, with a view of window + 128 pixels.

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1.
    encoder
        Name of a timm model with feature maps. Its weights are frozen.
    window
        Side of the window in pixels, a multiple of 32.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If an argument is invalid, or the weights are not available.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        encoder: str = "tf_efficientnet_lite0",
        window: int = 512,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        largest = max(LAYOUT)
        if window < largest or window % largest:
            raise CheckpointError(
                f"A window of {window} pixels does not fit a pixel classifier: it must "
                f"be a multiple of {largest}.",
                f"Choose {max(1, round(window / largest)) * largest}.",
            )
        extent = window + 2 * MARGIN
        self.spec = InputSpec(
            views={"local": View(extent, extent)},
            window=window,
            channels=channels,
            mean=default_mean(channels),
            std=default_std(channels),
        )
        head = Stage(2000, 1e-3, trainable=("classifiers.", "bias"))
        self.recipe = Recipe((head,), 8, "adamw", weight_decay=1e-2)
        self.encoder = make_truncated(encoder, channels, STRIDES, pretrained)
        self.encoder.requires_grad_(False)
        widths = [_filter_count(channels, k == 0) for k in range(len(FILTERS))]
        self.fine = sum(widths)
        widths += len(REDUCTIONS) * self.encoder.feature_info.channels()
        bound = 1 / math.sqrt(sum(widths))  # as one layer of all features
        self.classifiers = nn.ParameterList(
            torch.empty(classes, width, 1, 1).uniform_(-bound, bound)
            for width in widths
        )
        self.bias = nn.Parameter(torch.zeros(classes))
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("scale", torch.ones(sum(widths)))

    def train(self, mode: bool = True) -> "PixelClassifier":
        """Set the training mode; the encoder always uses its running statistics."""
        super().train(mode)
        self.encoder.eval()
        return self

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the maps of a view, each (N, c, H / stride, W / stride)."""
        maps = list(filter_maps(image))
        for reduction in REDUCTIONS:
            small = F.avg_pool2d(image, reduction) if reduction > 1 else image
            maps += self.encoder(small)
        return maps

    def classify(self, maps: list[Tensor]) -> Tensor:
        size, first = self.spec.window, 0
        mean, scale = self.statistics()
        with no_autocast(maps[0]):  # features may be small beside their mean
            logits = self.bias[:, None, None]
            for part, kernel, stride in zip(
                maps, self.classifiers, LAYOUT, strict=True
            ):
                of_map = slice(first, first := first + part.shape[1])
                weight = kernel / scale[of_map, None, None]
                bias = -(weight[..., 0, 0] @ mean[of_map])
                value = F.conv2d(_inner(part, stride, size).float(), weight, bias)
                logits = logits + _enlarged(value, stride, size)
        return logits

    def gather(self, maps: list[Tensor], at: Tensor) -> Tensor:
        found = []
        for part, stride in zip(maps, LAYOUT, strict=True):
            size = torch.tensor(part.shape[-2:], device=at.device) * stride
            grid = ((at + 0.5) / size * 2 - 1).flip(1)[None, None].float()
            values = F.grid_sample(
                part.float(), grid, padding_mode="border", align_corners=False
            )
            found.append(values[0, :, 0].T)
        return torch.cat(found, dim=1)

    def weights(self) -> Tensor:
        return torch.cat([w.detach()[..., 0, 0] for w in self.classifiers], dim=1)

    def set_weights(self, weights: Tensor, bias: Tensor) -> None:
        first = 0
        with torch.no_grad():
            for kernel in self.classifiers:
                last = first + kernel.shape[1]
                kernel.copy_(weights[:, first:last, None, None])
                first = last
            self.bias.copy_(bias)

    def set_statistics(self, mean: Tensor, scale: Tensor) -> None:
        own_mean, own_scale = self.statistics()
        own_mean.copy_(mean)
        own_scale.copy_(scale)

    def forward(self, batch: Batch) -> Outputs:
        return {"logits": self.classify(self.features(batch.views["local"]))}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs["logits"], batch.target)}

    def statistics(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.scale, Tensor)
        return self.mean, self.scale


def filter_maps(image: Tensor) -> Iterator[Tensor]:
    """Yield the filters of an image, one map for each entry of `FILTERS`.

    Parameters
    ----------
    image
        (N, C, H, W) float.

    Yields
    ------
    Tensor
        (N, c, H / stride, W / stride): smoothed bands, their gradient magnitudes and
        eigenvalues of the Hessian, and eigenvalues of the structure tensor of the mean
        of the bands; the first map also contains the bands.
    """
    with no_autocast(image):
        image = image.float().contiguous()  # a third faster than channels last
        for number, (stride, sigma) in enumerate(FILTERS):
            small = F.avg_pool2d(image, stride) if stride > 1 else image
            smooth = _smoothed(small, sigma)
            dy, dx = _gradient(smooth)
            (dyy, dyx), (_, dxx) = _gradient(dy), _gradient(dx)
            mean_y, mean_x = dy.mean(1, True), dx.mean(1, True)
            tensor = [
                _smoothed(a * b, 2 * sigma)
                for a, b in ((mean_y, mean_y), (mean_y, mean_x), (mean_x, mean_x))
            ]
            parts = [
                smooth,
                _norm(dy, dx),
                *_eigenvalues(dyy, dyx, dxx),
                *_eigenvalues(*tensor),
            ]
            yield torch.cat([image, *parts] if number == 0 else parts, dim=1)


def _filter_count(channels: int, first: bool) -> int:
    """Return the channels of a map of `filter_maps`."""
    return (5 if first else 4) * channels + 2


def _smoothed(image: Tensor, sigma: float) -> Tensor:
    """Return a Gaussian filter of an image, whose border is replicated."""
    reach = math.ceil(3 * sigma)
    x = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(image.dtype)
    channels = image.shape[1]
    weight = kernel.expand(channels, 1, -1)
    for axis in (2, 3):
        pad = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        shaped = weight.unsqueeze(2 if axis == 3 else 3)
        padded = F.pad(image, pad, mode="replicate")
        image = F.conv2d(padded, shaped, groups=channels)
    return image


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences along rows and columns."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    return dy, dx


def _norm(a: Tensor, b: Tensor) -> Tensor:
    """Return the length of vectors, with a finite gradient at 0."""
    return (a**2 + b**2 + 1e-12).sqrt()


def _eigenvalues(yy: Tensor, yx: Tensor, xx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the larger and the smaller eigenvalue of symmetric 2 x 2 matrices."""
    middle, half = (yy + xx) / 2, _norm((yy - xx) / 2, yx)
    return middle + half, middle - half


def _inner(part: Tensor, stride: int, size: int) -> Tensor:
    """Return the part of a map that the middle of the view needs."""
    side = part.shape[-1] * stride
    first = (side - size) // 2 // stride
    count = size // stride
    reach = 1 if stride > 1 else 0
    rows = slice(first - reach, first + count + reach)
    return part[..., rows, rows]


def _enlarged(value: Tensor, stride: int, size: int) -> Tensor:
    """Return the (N, c, size, size) enlargement of `_inner`."""
    if stride == 1:
        return value
    large = F.interpolate(
        value, scale_factor=stride, mode="bilinear", align_corners=False
    )
    rows = slice(stride, stride + size)
    return large[..., rows, rows]
