"""Laplacian pyramid: the residuals that an image loses at each halving."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.models.blocks.common import no_autocast


class LaplacianPyramid(nn.Module):
    """Laplacian pyramid with the binomial kernel 1 4 6 4 1, without parameters.

    Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983; ISDNet's
    eq. 1.

    Halving blurs and keeps every second pixel; doubling puts zeros between the
    pixels and blurs with four times the kernel. Both reflect at the borders.
    """

    kernel: Tensor

    def __init__(self, channels: int, levels: int = 2) -> None:
        super().__init__()
        self.channels, self.levels = channels, levels
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        kernel = torch.outer(line, line).expand(channels, 1, 5, 5).clone()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the residuals H_0, H_1, ...: (N, C, H, W), then half, rounded up.

        Computed in float32 also under autocast: a residual is a small difference of
        large numbers.
        """
        residuals = []
        with no_autocast(image):
            image, kernel = image.float(), self.kernel.float()
            for _ in range(self.levels):
                half = self._halved(image, kernel)
                blurred = self._doubled(half, kernel)
                if blurred.shape[-2:] != image.shape[-2:]:  # odd sides
                    blurred = F.interpolate(blurred, size=image.shape[-2:])
                residuals.append(image - blurred)
                image = half
        return residuals

    def _halved(self, image: Tensor, kernel: Tensor) -> Tensor:
        padded = F.pad(image, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, kernel, stride=2, groups=self.channels)

    def _doubled(self, image: Tensor, kernel: Tensor) -> Tensor:
        """Double an image without creating the image with zeros between pixels.

        That image is four times as large. Its reflection by two pixels contains the
        second pixel at the front, the last pixel at the end, and otherwise zeros.
        """
        padded = F.pad(image, (1, 0, 1, 0), mode="reflect")
        padded = F.pad(padded, (0, 1, 0, 1), mode="replicate")
        return F.conv_transpose2d(
            padded, 4 * kernel, stride=2, padding=4, output_padding=1,
            groups=self.channels,
        )  # fmt: skip
