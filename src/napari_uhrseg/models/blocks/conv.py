"""A convolution with batch norm, as mmsegmentation and STDC name its parts."""

from torch import Tensor, nn


class ConvBn(nn.Module):
    """A convolution without bias, padded so that stride 1 keeps the size, and norm."""

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
    """The same, and ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu_()
