"""Small parts that several networks share: convolutions, heads, normalisation.

The parts of a convolution have the names that mmsegmentation and STDC use.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import ConvNormAct
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

OVERLAP_FRACTION = 8
"""Default overlap of windows, as a fraction 1/n of their side.

With weights that decrease towards the borders, labels then change across window borders
about as often as elsewhere.
"""


class ConvBn(nn.Module):
    """Convolution without bias, and batch norm; stride 1 keeps the size.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    kernel
        Side of the kernel in pixels, odd.
    stride, dilation
        Stride and dilation of the convolution in pixels, at least 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding, dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class ConvBnReLU(ConvBn):
    """Convolution, batch norm and ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu_()


def auxiliary_head(inputs: int, width: int, classes: int) -> nn.Sequential:
    """Return a head for auxiliary losses, as mmsegmentation's FCN head.

    Parameters
    ----------
    inputs
        Channels of the features, (N, inputs, h, w).
    width
        Channels between the two convolutions.
    classes
        Channels of the logits, (N, classes, h, w).
    """
    return nn.Sequential(
        ConvNormAct(inputs, width, 3), nn.Dropout2d(0.1), nn.Conv2d(width, classes, 1)
    )


def default_mean(channels: int) -> tuple[float, ...]:
    """Return ImageNet's mean for three bands, otherwise the middle of the range."""
    return (0.485, 0.456, 0.406) if channels == 3 else (0.5,) * channels


def default_std(channels: int) -> tuple[float, ...]:
    """Return ImageNet's deviation for three bands, otherwise a quarter of the range."""
    return (0.229, 0.224, 0.225) if channels == 3 else (0.25,) * channels


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Return a context that turns autocast off on the tensor's device.

    Sums over many pixels need more than 16 bits. The ``meta`` device, which is used to
    trace memory, has no autocast; there the context has no effect.
    """
    kind = "cpu" if tensor.is_meta else tensor.device.type
    return torch.autocast(kind, enabled=False)


@contextmanager
def statistics_kept(block: nn.Module) -> Iterator[None]:
    """Freeze running statistics during the second forward pass of a checkpoint.

    The first pass has updated the statistics already.
    """
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    counts = [(n, n.clone()) for m in norms if (n := m.num_batches_tracked) is not None]
    momenta = [(m, m.momentum) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        for count, before in counts:
            count.copy_(before)
