"""What every method is to the engine: a Segmenter fed with Batches."""

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
    """What the network is fed for N windows.

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
    """A method: what it sees, how it labels, what it learns from.

    ``spec`` and ``recipe`` are set by ``__init__``. A new method is one file with
    one subclass, and one line in ``registry.py``.
    """

    spec: InputSpec
    recipe: Recipe
    training_only_modules: ClassVar[tuple[str, ...]] = ()
    """Dotted names of submodules that only ``loss`` needs; no checkpoint holds them."""
    encoder_prefixes: ClassVar[tuple[str, ...]] = ("encoder.",)
    """Prefixes of the parameters that see the image first and know the most."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Outputs by name.

        ``"logits"``: (N, K, window, window) float, or of the frame's height and
        width; in training mode also whatever the loss needs beside them.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Scalar terms by name; their sum, ``"loss"`` among them, is minimised."""

    supports_banded: ClassVar[bool] = False
    """Whether ``coarse`` answers."""

    def forward_banded(self, batch: Batch, rows: int) -> Tensor:
        """The logits of a frame before they are enlarged to it, worked in bands.

        Parameters
        ----------
        batch
            In main memory, where maps are held as well; the weights' device works.
        rows
            Rows of the frame that are worked at a time.

        Returns
        -------
        Tensor
            (N, K, h, w), which bilinear resizing (align_corners False) makes
            ``forward``'s logits.
        """
        raise NotImplementedError(f"{type(self).__name__} is not worked in bands")

    def begin_stage(self, stage: Stage, first: bool) -> None:
        """A stage of the recipe begins (or goes on, after an interruption).

        Parameters
        ----------
        stage
            One of ``recipe.stages``, with the numbers the person chose.
        first
            Whether its first step is still to come: only then may weights change.
        """
