"""Plain segmentation network, one window at a time: the baseline of every paper.

The network is an architecture of segmentation-models-pytorch with an encoder of that
library or of timm. [choice] It includes the library's last upsampling, so that its
checkpoints give the same results here.
[choice] The recipe is that of SCPSeg's paper, so that the two can be compared.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.common import (
    OVERLAP_FRACTION,
    default_mean,
    default_std,
)
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.blocks.smp_network import make_segmenter
from napari_uhrseg.types import InputSpec, Recipe, Stage, View


class Plain(Segmenter):
    """Segmentation network on one local view, (N, C, window, window).

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1.
    architecture, encoder
        As in :func:`~napari_uhrseg.models.blocks.smp_network.make_segmenter`.
    window
        Side of the window in pixels, a multiple of the encoder's stride.
    options
        Further arguments of the architecture, as in ``make_segmenter``.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If the parts do not match, or the weights are not available.
    """

    encoder_prefixes: ClassVar[tuple[str, ...]] = ("net.encoder.",)
    pretrained_modules: ClassVar[tuple[str, ...]] = ("net.encoder",)

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
            mean=default_mean(channels),
            std=default_std(channels),
            window_overlap=window // OVERLAP_FRACTION,
            merge="taper",
        )
        self.recipe = Recipe(stages=(Stage(40_000, 0.01),), batch_size=16)
        self.net = make_segmenter(
            architecture, encoder, classes, channels, window, options, pretrained
        )

    def forward(self, batch: Batch) -> Outputs:
        return {"logits": self.net(batch.views["local"])}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs["logits"], batch.target)}
