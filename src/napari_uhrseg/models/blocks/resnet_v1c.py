"""ResNet-18 with the dilation of mmsegmentation ("ResNetV1c", output stride 8).

He et al., "Bag of Tricks for Image Classification", CVPR 2019, for the stem of three
3 x 3 convolutions. It differs from timm's dilated ResNet-18: a block's second
convolution is never dilated, and the first block of a dilated stage has half of the
stage's dilation. Keys are mmsegmentation's.
"""

from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from napari_uhrseg.errors import CheckpointError

# ImageNet weights that every mmsegmentation recipe with this network starts from;
# the name contains the start of the file's SHA-256
WEIGHTS = (
    "https://download.openmmlab.com/pretrain/third_party/resnet18_v1c-b5776b93.pth"
)


class BasicBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions; only the first is dilated.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    stride, dilation
        Stride and dilation of the first convolution in pixels, at least 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            inputs, outputs, 3, stride, dilation, dilation, bias=False
        )
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn1(self.conv1(x)).relu_()
        out = self.bn2(self.conv2(out))
        out = out + (x if self.downsample is None else self.downsample(x))
        return out.relu_()


class ResNet18V1c(nn.Module):
    """ResNet-18 encoder: maps at 1/4, 1/8, 1/8 and 1/8 of (N, C, H, W), rounded up.

    Parameters
    ----------
    channels
        Bands of the image, at least 1.
    pretrained
        Load the ImageNet weights of mmsegmentation's model zoo. They are downloaded
        once (45 MB) to torch's hub folder. The weights of the first convolution are
        repeated or summed for other numbers of channels than three.

    Raises
    ------
    CheckpointError
        If the weights are not available.
    """

    out_channels = (64, 128, 256, 512)

    def __init__(self, channels: int = 3, pretrained: bool = False) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        before = channels
        for after, stride in ((32, 2), (32, 1), (64, 1)):
            stem += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            before = after
        self.stem = nn.Sequential(*stem)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(64, 64, 1, (1, 1))
        self.layer2 = _stage(64, 128, 2, (1, 1))
        self.layer3 = _stage(128, 256, 1, (1, 2))
        self.layer4 = _stage(256, 512, 1, (2, 4))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu"
                )
        if pretrained:
            self._take(_weights(channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.stem(x))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def _take(self, weights: dict[str, Tensor]) -> None:
        fit = self.load_state_dict(weights, strict=False)
        counters = "num_batches_tracked"  # older files lack them, and they are not read
        missing = [k for k in fit.missing_keys if not k.endswith(counters)]
        if missing or fit.unexpected_keys:
            raise CheckpointError(
                f"The file of ImageNet weights is of another network: {len(missing)} "
                f"missing, {len(fit.unexpected_keys)} unknown.",
                f"Delete it from torch's hub folder; it is fetched from {WEIGHTS}.",
            )


def _stage(
    inputs: int, outputs: int, stride: int, dilations: tuple[int, int]
) -> nn.Sequential:
    first, second = dilations
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride, first),
        BasicBlock(outputs, outputs, 1, second),
    )


def _weights(channels: int) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.hub.load_state_dict_from_url(
            WEIGHTS, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"The ImageNet weights of 'resnet18_v1c' are not available: {error}",
            f"Connect to the internet once (they are kept afterwards), put the file "
            f"from {WEIGHTS} into torch's hub folder, or train from scratch: "
            "add --no-pretrained.",
        ) from error
    weights = dict(loaded.get("state_dict", loaded))
    first = "stem.0.weight"
    weights[first] = adapt_input_conv(channels, weights[first])
    return {k: v for k, v in weights.items() if not k.startswith("fc.")}
