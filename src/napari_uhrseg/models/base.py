"""Interface of the methods: a Segmenter, and the Batch that it takes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_uhrseg.types import InputSpec, Recipe, Stage

Outputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of a network for N windows or frames.

    Parameters
    ----------
    views
        View name to (N, C, size, size) float32, normalised; views of a frame to
        (N, C, height, width), multiples of the spec's divisor and at least its
        minimum.
    boxes
        View name to (N, 4) float32: where each window lies in that view's
        pixels, as y0, x0, y1, x1.
    target
        (N, window, window) int64 class indices, 255 ignored; only in training.
        Where there are frames, of the size of the view that is one.
    surrounding_target
        The same for all the ground that a view off the window's centre covers.
    """

    views: dict[str, Tensor]
    boxes: dict[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None
    surrounding_target: Tensor | None = None

    def __getitem__(self, index: Tensor | slice) -> "Batch":
        """The samples of those numbers, (n,) int64: a copy; of a slice, no copy."""
        return self._each(lambda tensor: tensor[index])

    def __len__(self) -> int:
        """Of its samples, the number N."""
        return len(next(iter(self.views.values())))

    def to(self, device: torch.device) -> "Batch":
        """There, the views' channels last in memory: so convolutions are quickest."""
        there = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        last = torch.channels_last
        views = {k: v.contiguous(memory_format=last) for k, v in there.views.items()}
        return replace(there, views=views)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        targets = (self.target, self.surrounding_target)
        return Batch(
            {k: change(v) for k, v in self.views.items()},
            {k: change(v) for k, v in self.boxes.items()},
            *(None if t is None else change(t) for t in targets),
        )


def concatenate_batches(batches: Sequence[Batch]) -> Batch:
    """One batch of all the samples, without targets; as it is where there is one."""
    if len(batches) == 1:
        return batches[0]
    views = {k: torch.cat([b.views[k] for b in batches]) for k in batches[0].views}
    boxes = {k: torch.cat([b.boxes[k] for b in batches]) for k in batches[0].boxes}
    return Batch(views, boxes)


class Segmenter(nn.Module, ABC):
    """Base of the methods: input, forward pass and loss.

    ``spec`` and ``recipe`` are set by ``__init__``. A new method is one file with
    one subclass, and one line in ``registry.py``.
    """

    spec: InputSpec
    recipe: Recipe
    training_only_modules: ClassVar[tuple[str, ...]] = ()
    """Dotted names of submodules that only ``loss`` uses; checkpoints omit them."""
    encoder_prefixes: ClassVar[tuple[str, ...]] = ("encoder.",)
    """Prefixes of the encoder's parameter names."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Return outputs by name.

        ``"logits"``: (N, K, window, window) float, or of the frame's height and
        width; in training mode also whatever the loss needs beside them.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return scalar terms by name; the term ``"loss"`` is minimised."""

    supports_banded: ClassVar[bool] = False
    """Whether :meth:`forward_banded` is implemented."""

    def forward_banded(self, batch: Batch, rows: int) -> Tensor:
        """Return the logits of a frame before enlargement, in blocks of rows.

        Parameters
        ----------
        batch
            In main memory, where feature maps are stored too. The weights' device
            computes.
        rows
            Rows of the frame in a block.

        Returns
        -------
        Tensor
            (N, K, h, w), which bilinear resizing (align_corners False) makes
            ``forward``'s logits.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not support banded forward passes"
        )

    def begin_stage(self, stage: Stage, first: bool) -> None:
        """Begin a stage of the recipe, or resume it after an interruption.

        Parameters
        ----------
        stage
            One of ``recipe.stages``, with the numbers that the user chose.
        first
            True before the first step of the stage; only then may weights change.
        """
