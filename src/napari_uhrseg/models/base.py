"""Interface of the methods: `Segmenter`, and its input `Batch`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
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
        Normalised (N, C, size, size) float32 pixels by view name. A view of a frame
        is (N, C, height, width); its sides are multiples of the spec's ``divisor``
        and at least ``min_side``.
    boxes
        (N, 4) float32 corners y0, x0, y1, x1 of each window by view name, in pixels
        of the view.
    target
        (N, window, window) int64 class indices, 255 ignored; only in training. For
        frames: (N, height, width).
    surrounding_target
        Class indices of the whole area of the view that may be off centre; ``None``:
        unknown.
    """

    views: dict[str, Tensor]
    boxes: dict[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None
    surrounding_target: Tensor | None = None

    def __getitem__(self, index: Tensor | slice) -> "Batch":
        """Return a copy of samples by (n,) int64 numbers; a slice gives a view."""
        return self._each(lambda tensor: tensor[index])

    def __len__(self) -> int:
        """Return the number N of samples."""
        return len(next(iter(self.views.values())))

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, with the views channels last in memory."""
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


class Segmenter(nn.Module, ABC):
    """Base class of the methods: input, forward pass and loss.

    ``__init__`` sets ``spec`` and ``recipe``. A new method is one file with one
    subclass, and one entry in ``registry.py``.
    """

    spec: InputSpec
    recipe: Recipe
    training_only_modules: ClassVar[tuple[str, ...]] = ()
    """Dotted names of submodules that only ``loss`` uses; checkpoints omit them."""
    encoder_prefixes: ClassVar[tuple[str, ...]] = ("encoder.",)
    """Prefixes of the encoder's parameter names."""
    pretrained_modules: ClassVar[tuple[str, ...]] = ("encoder",)
    """Dotted names of the encoders that ImageNet weights are loaded into."""
    light_encoders: ClassVar[tuple[str, ...]] = ()
    """Dotted names of further encoders, whose weights can only come from a file."""
    external: ClassVar[bool] = False
    """True if another library runs the network: on the CPU, in float32, on one window
    at a time. It has no parameters of torch and cannot be trained."""
    external_bytes: int = 0
    """Bytes of the weights of an external network."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Return outputs by name.

        ``"logits"`` is (N, K, window, window) float, or (N, K, height, width) for
        frames. In training mode the loss may need further outputs.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return scalar loss terms by name; training minimises ``"loss"``."""

    frames_like_crops: ClassVar[bool] = False
    """True if frames should have about the size of the training crops."""
    supports_banded: ClassVar[bool] = False
    """True if :meth:`forward_banded` is implemented."""

    def forward_banded(self, batch: Batch, rows: int) -> Tensor:
        """Return the logits of a frame before enlargement, in blocks of rows.

        Parameters
        ----------
        batch
            One frame in main memory, where feature maps are stored too. The device of
            the weights computes.
        rows
            Rows of the frame in a block, at least 1.

        Returns
        -------
        Tensor
            (N, K, h, w) logits. Bilinear resizing (align_corners False) to the frame's
            size gives the logits of ``forward``.

        Raises
        ------
        NotImplementedError
            If `supports_banded` is False.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not support banded forward passes"
        )

    def begin_stage(self, stage: Stage, first: bool) -> None:
        """Begin a stage of the recipe, or resume it after an interruption.

        Parameters
        ----------
        stage
            One of ``recipe.stages``, with the values that the user chose.
        first
            True before the first step of the stage. Only then may weights change.
        """


class PixelSegmenter(Segmenter):
    """Base class of methods with a linear classifier on fixed features of pixels.

    The features do not depend on trained weights, so that they can be cached while the
    classifier is trained.
    """

    bias: nn.Parameter
    """(K,) biases of the classes."""
    fine: int
    """Number of fine features, the first ones: they see only a few pixels."""

    @abstractmethod
    def features(self, image: Tensor) -> list[Tensor]:
        """Return the maps of the view ``local``: each (N, c, h, w)."""

    @abstractmethod
    def classify(self, maps: list[Tensor]) -> Tensor:
        """Return the (N, K, window, window) logits of the maps of a view."""

    @abstractmethod
    def gather(self, maps: list[Tensor], at: Tensor) -> Tensor:
        """Return the features of pixels as ``classify`` interpolates them.

        Parameters
        ----------
        maps
            Maps of one view, N = 1, of :meth:`features`.
        at
            (n, 2) int64 rows and columns of pixels in the view.

        Returns
        -------
        Tensor
            (n, features) float32, not standardised.
        """

    @abstractmethod
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of each feature, (features,) float32."""

    @abstractmethod
    def set_statistics(self, mean: Tensor, scale: Tensor) -> None:
        """Set the mean and the deviation of each feature, (features,) float32."""

    @abstractmethod
    def weights(self) -> Tensor:
        """Return a copy of the weights of standardised features: (K, features)."""

    @abstractmethod
    def set_weights(self, weights: Tensor, bias: Tensor) -> None:
        """Set (K, features) weights and (K,) biases for standardised features."""
