"""A one-convolution network: real arithmetic for tests, in microseconds."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import (
    Card,
    InputSpec,
    LabelClass,
    Legend,
    Recipe,
    Stage,
    View,
)

LEGEND = Legend(
    (
        LabelClass(1, "dark", "#101010"),
        LabelClass(2, "middle", "#808080"),
        LabelClass(3, "light", "#f0f0f0"),
    )
)


class ToyNet(Segmenter):
    """A 5 x 5 convolution on one local view: real arithmetic, in microseconds."""

    def __init__(self, window: int = 64, extent: int | None = None) -> None:
        super().__init__()
        side = extent or window
        self.spec = InputSpec(views={"local": View(side, side)}, window=window)
        self.recipe = Recipe(stages=(Stage(1, 0.1),), batch_size=1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Conv2d(3, len(LEGEND), 5, padding=2)

    def forward(self, batch: Batch) -> Outputs:
        logits = self.net(batch.views["local"])
        margin = (logits.shape[-1] - self.spec.window) // 2
        end = margin + self.spec.window
        return {"logits": logits[..., margin:end, margin:end]}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(outputs["logits"], batch.target)}


class ConstantNet(ToyNet):
    """The same logits everywhere."""

    def forward(self, batch: Batch) -> Outputs:
        count, side = len(batch.views["local"]), self.spec.window
        logits = torch.tensor([0.25, 1.5, -0.5]).view(1, 3, 1, 1)
        return {"logits": logits.expand(count, 3, side, side)}


class FrameNet(ToyNet):
    """A 5 x 5 convolution on frames; ``tilt`` adds the frame's mean to a class."""

    def __init__(self, frame: int = 1088, overlap: int = 64, tilt: float = 0) -> None:
        super().__init__()
        self.tilt = tilt
        self.spec = InputSpec(
            views={"local": View("frame")},
            window=64,
            frame=frame,
            frame_overlap=overlap,
            min_side=16,
            divisor=8,
        )

    def forward(self, batch: Batch) -> Outputs:
        logits = self.net(batch.views["local"])
        means = batch.views["local"].mean((1, 2, 3))
        logits[:, 1] += self.tilt * means[:, None, None]
        return {"logits": logits}


def make_checkpoint(model: Segmenter, **card: object) -> Checkpoint:
    model.eval()
    spec = card.pop("spec", model.spec)
    return Checkpoint(
        model=model,
        card=Card(
            model="toy", arguments={}, legend=LEGEND, spec=spec, name="toy", **card
        ),
        hash=f"{type(model).__name__}-{spec.window}",
        path=Path("toy.safetensors"),
    )


class LinearNet(Segmenter):
    """A linear classifier of the mean of three bands, from 0 to 1.

    Its training is a convex problem. Class k has the logit ``slope * mean + offset``
    with the k-th slope and offset.
    """

    def __init__(
        self, slopes: Sequence[float], offsets: Sequence[float], window: int = 64
    ) -> None:
        super().__init__()
        self.spec = InputSpec(
            views={"local": View(window, window)},
            window=window,
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
        self.recipe = Recipe(stages=(Stage(1, 0.1),), batch_size=2)
        self.slopes = nn.Parameter(torch.tensor(slopes))
        self.offsets = nn.Parameter(torch.tensor(offsets))

    def forward(self, batch: Batch) -> Outputs:
        mean = batch.views["local"].mean(1, keepdim=True)
        slopes, offsets = (v[None, :, None, None] for v in (self.slopes, self.offsets))
        return {"logits": slopes * mean + offsets}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs["logits"], batch.target)}


class EncoderNet(Segmenter):
    """An encoder of two blocks with batch normalisation, and a linear head."""

    def __init__(self, window: int = 32, classes: int = 2) -> None:
        super().__init__()
        self.spec = InputSpec(views={"local": View(window, window)}, window=window)
        self.recipe = Recipe(stages=(Stage(1, 0.1),), batch_size=2)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(
                *(
                    nn.Sequential(nn.Conv2d(n, 4, 3, padding=1), nn.BatchNorm2d(4))
                    for n in (3, 4)
                )
            )
            self.head = nn.Conv2d(4, classes, 1)

    def forward(self, batch: Batch) -> Outputs:
        return {"logits": self.head(self.encoder(batch.views["local"]).relu())}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs["logits"], batch.target)}
