"""A plain segmentation network, one window at a time: every paper's baseline.

Any architecture of segmentation-models-pytorch around any of its encoders or
timm's. [choice] The network is that library's own, its last upsampling included,
so that its checkpoints work here with the same arithmetic.
[choice] The recipe is that of SCPSeg's paper, so that the two can be compared.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.generic import make_segmenter
from napari_uhrseg.types import InputSpec, Recipe, Stage, View

IGNORED = 255


class Plain(Segmenter):
    """One local view of the window, (N, C, window, window).

    Parameters
    ----------
    classes, channels
        Outputs and inputs of the network.
    architecture, encoder, options
        As in :func:`~napari_uhrseg.models.blocks.generic.make_segmenter`.
    window
        Side of the window in pixels; a multiple of the encoder's stride.
    pretrained
        Start from ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        The parts do not fit together, or the weights cannot be fetched.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        architecture: str = "DeepLabV3Plus",
        encoder: str = "resnet18",
        window: int = 512,
        options: Mapping[str, Any] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.spec = InputSpec(
            views={"local": View(window, window)},
            window=window,
            channels=channels,
            mean=mean(channels),
            std=std(channels),
        )
        self.recipe = Recipe(stages=(Stage(40_000, 0.01),), batch_size=16)
        self.net = make_segmenter(
            architecture, encoder, classes, channels, window, options, pretrained
        )

    def forward(self, batch: Batch) -> Outputs:
        return {"logits": self.net(batch.views["local"])}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs["logits"], batch.target)}


def mean(channels: int) -> tuple[float, ...]:
    """ImageNet's for three bands, else the middle of the range."""
    return (0.485, 0.456, 0.406) if channels == 3 else (0.5,) * channels


def std(channels: int) -> tuple[float, ...]:
    """ImageNet's for three bands, else a quarter of the range."""
    return (0.229, 0.224, 0.225) if channels == 3 else (0.25,) * channels


def cross_entropy(logits: Tensor, target: Tensor | None) -> Tensor:
    """Mean over the labelled pixels, in float32; 0 where there is none."""
    if target is None:
        raise ValueError("a loss needs a target")
    total = F.cross_entropy(
        logits.float(), target, ignore_index=IGNORED, reduction="sum"
    )
    return total / (target != IGNORED).sum().clamp(min=1)
