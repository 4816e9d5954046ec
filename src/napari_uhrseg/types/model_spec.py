"""Input of a method (input spec), and its training (recipe)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from napari_uhrseg.units import formatted

Placement = Literal["shift", "even"]
Merge = Literal["uniform", "taper"]
Padding = Literal["reflect", "edge", "zero"]
ValueRange = tuple[float, ...]
"""Image values that become 0 and 1: two numbers, or two for each channel."""
PerBand = Literal["per-band"]
PER_BAND: PerBand = "per-band"
"""Value range of percentiles of each band of an image."""


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError unless the value is a whole number of at least ``least``.

    Parameters
    ----------
    name
        Name of the value in the error message.
    value
        The value to check. A bool is not a whole number.
    least
        Smallest valid value.

    Raises
    ------
    ValueError
        If the value is not such a number.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < least:  # type: ignore[call-overload]
        raise ValueError(f"{name} is {value!r}, not a whole number from {least} on")


def check_numbers(name: str, values: object, count: int) -> None:
    """Raise ValueError unless the value is a tuple of finite numbers.

    Parameters
    ----------
    name
        Name of the value in the error message.
    values
        The value to check.
    count
        Required length of the tuple.

    Raises
    ------
    ValueError
        If the value is not such a tuple.
    """
    if (
        not isinstance(values, tuple)
        or len(values) != count
        or not all(isinstance(v, Real) and math.isfinite(v) for v in values)
    ):
        raise ValueError(f"{name} is {values!r}, not {count} finite numbers")


def value_pairs(values: ValueRange) -> list[tuple[float, float]]:
    """Return the pairs of a value range: one for all channels, or one for each."""
    return list(zip(values[::2], values[1::2], strict=True))


def describe_range(values: ValueRange) -> str:
    """Return a value range as text: ``0 to 255``, or one text for each channel."""
    pairs = (
        f"{formatted(low, ',.6g')} to {formatted(high, ',.6g')}"
        for low, high in value_pairs(values)
    )
    return "; ".join(pairs)


def check_range(values: object, channels: int) -> None:
    """Check a value range.

    Parameters
    ----------
    values
        Two numbers, or two for each channel.
    channels
        Number of channels of the network.

    Raises
    ------
    ValueError
        If there are other values, or black is white.
    """
    each = isinstance(values, tuple) and len(values) == 2 * channels
    check_numbers("value_range", values, 2 * channels if each else 2)
    assert isinstance(values, tuple)  # as checked
    if any(low == high for low, high in value_pairs(values)):
        raise ValueError(f"value_range is {values}: black is white")


@dataclass(frozen=True, slots=True)
class View:
    """Part of an image around a window that a network takes as input.

    Parameters
    ----------
    extent
        Side of the covered area in run pixels, centred on the window; or
        ``"frame"`` for a whole frame. In training, a crop replaces the frame.
    size
        Side of the network's input in pixels; ``None``: one input pixel for each run
        pixel, which is the only choice for a frame.
    off_centre
        If True, the view's centre may lie anywhere in the window during training.
        During inference it is the window's centre.
    """

    extent: int | Literal["frame"]
    size: int | None = None
    off_centre: bool = False

    def __post_init__(self) -> None:
        if self.extent == "frame" and self.size is not None:
            raise ValueError("a frame has its own size")
        if self.extent != "frame":
            check_whole("the extent of a view", self.extent)
        if self.size is not None:
            check_whole("the size of a view", self.size)

    @property
    def side(self) -> int:
        """Side of the network's input in pixels, for views of a window.

        Raises
        ------
        ValueError
            If the view is a whole frame.
        """
        if self.extent == "frame":
            raise ValueError("a frame has no fixed size")
        return self.extent if self.size is None else self.size

    def __str__(self) -> str:
        if self.extent == "frame":
            return "the whole frame"
        side = "" if self.side == self.extent else f" → {self.side}"
        return f"{self.extent}{side} px"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Input specification of a model. The engine needs no other property of it.

    Parameters
    ----------
    views
        Views by name (``local``, ``surrounding``, ``overview``).
    window
        Side of the square that one forward pass labels, in run pixels. For models
        that work on frames: side of the training crop.
    channels
        Number of bands that the network takes, at least 1.
    value_range
        Pixel values mapped to 0 and 1 before ``mean`` and ``std``, or two values for
        each channel; ``None``: the range of the image (0 to 255 for 8-bit, else that
        of the bands used); ``PER_BAND``: percentiles of each band of the image.
    mean, std
        Mean and standard deviation of each channel, after ``value_range``.
    pixel_size
        Size of a training pixel in metres; ``None``: unknown.
    window_overlap
        Default overlap of neighbouring windows in run pixels, 0 to ``window`` - 1.
    placement
        ``"shift"``: the last window is moved inward; ``"even"``: all windows are
        evenly spaced.
    merge
        Weights of overlapping windows: ``"uniform"``, or ``"taper"``, which decreases
        towards the borders.
    padding
        Padding beyond the image.
    frame
        Side of the largest frame in run pixels, for models that work on frames.
        ``None``: the model works on windows.
    frame_overlap
        Width in run pixels of the seam in which two frames are blended.
    min_side, divisor
        Smallest side of a frame in run pixels, and the number of which each side is a
        multiple.
    """

    views: Mapping[str, View]
    window: int
    channels: int = 3
    value_range: ValueRange | PerBand | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    pixel_size: float | None = None
    window_overlap: int = 0
    placement: Placement = "shift"
    merge: Merge = "uniform"
    padding: Padding = "reflect"
    frame: int | None = None
    frame_overlap: int = 128
    min_side: int = 64
    divisor: int = 1

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("a model must look at something: no views")
        for name, least in (
            ("window", 1),
            ("window_overlap", 0),
            ("channels", 1),
            ("frame_overlap", 0),
            ("min_side", 1),
            ("divisor", 1),
        ):
            check_whole(name, getattr(self, name), least)
        if self.window_overlap >= self.window:
            raise ValueError(
                f"window {self.window} with overlap {self.window_overlap} is impossible"
            )
        frames = [name for name, v in self.views.items() if v.extent == "frame"]
        if bool(frames) != (self.frame is not None):
            raise ValueError("a frame's side is given where a view is of a frame")
        if self.frame is not None:
            check_whole("frame", self.frame)
        self._check_values()

    @property
    def overlap(self) -> int:
        """Return the default overlap of the windows, or of the frames."""
        return self.window_overlap if self.frame is None else self.frame_overlap

    def describe_values(self) -> str:
        """Return the image values that become 0 and 1, as a text."""
        if self.value_range is None:
            return "that of each image"
        if self.value_range == PER_BAND:
            return "that of each band of each image"
        return describe_range(self.value_range)

    def _check_values(self) -> None:
        """Raise ValueError for an impossible value range, deviation or choice."""
        check_numbers("mean", self.mean, self.channels)
        check_numbers("std", self.std, self.channels)
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}, not above zero")
        if self.value_range is not None and self.value_range != PER_BAND:
            check_range(self.value_range, self.channels)
        if self.pixel_size is not None:
            check_numbers("pixel_size", (self.pixel_size,), 1)
            if self.pixel_size <= 0:
                raise ValueError(f"pixel_size is {self.pixel_size}, not above zero")
        for name, choices in (
            ("placement", Placement),
            ("merge", Merge),
            ("padding", Padding),
        ):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, not one of "
                    f"{', '.join(get_args(choices))}"
                )


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a training run: parameters, learning rate and length.

    Parameters
    ----------
    steps
        Optimizer steps.
    learning_rate
        Initial learning rate.
    trainable
        Prefixes of parameter names; empty: all parameters.
    name
        Name that identifies the stage for the method.
    frozen_encoder
        If True, the weights and the normalisation statistics of the encoder stay, and
        a few batches are repeated, so that the encoder's features can be cached.
    encoder_rate
        Learning rate of the encoder's first block, relative to the other parameters,
        above 0 and at most 1. The rates of later blocks increase geometrically.
    """

    steps: int
    learning_rate: float
    trainable: tuple[str, ...] = ()
    name: str = ""
    frozen_encoder: bool = False
    encoder_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training hyperparameters of a method's paper; users may change the numbers.

    ``schedule`` is the learning-rate schedule of a stage. ``augmentations`` are names
    in `engine.data.augmentation.AUGMENTATIONS`.
    """

    stages: tuple[Stage, ...]
    batch_size: int
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "poly"] = "cosine"
    clip: float | None = None
    augmentations: tuple[str, ...] = ("rotation", "color_jitter")
