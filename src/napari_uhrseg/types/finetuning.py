"""Settings of a fine-tuning, and a summary of its training data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from napari_uhrseg.types.regions import Roi
from napari_uhrseg.units import counted

QUICK_STEPS, THOROUGH_STEPS = 100, 400  # steps
FIRST_STEPS = 220  # of a new model: about five minutes on two cores


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """What the person may choose; ``None`` leaves it to the engine.

    The metadata of each field makes the form.

    Parameters
    ----------
    trainable
        Everything, all but the encoder, or the last layer alone.
    distillation_weight
        Weight of the old model's answer where nothing was corrected, against 1 for
        what was; 0 leaves such pixels out. ``None``: the more, the more of the
        corrections it had right.
    regions
        Level-0 rectangles to learn from; ``None``: every correction.
    freeze_batch_norm
        Whether normalisation keeps the statistics it has.
    """

    steps: int | None = field(
        default=None,
        metadata={
            "title": "Steps",
            "tooltip": "Number of optimisation steps.",
            "minimum": 1,
        },
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "title": "Learning rate",
            "tooltip": "Step size of the optimizer. Larger values learn faster and "
            "forget more.",
            "maximum": 1.0,
            "decimals": 6,
            "step": 1e-4,
        },
    )
    trainable: Literal["all", "decoder", "head"] = field(
        default="all",
        metadata={
            "title": "Trainable layers",
            "tooltip": "Layers that are trained. The others are frozen, which is "
            "faster and forgets less.",
            "names": {
                "all": "all layers",
                "decoder": "all except the encoder",
                "head": "last layer only",
            },
        },
    )
    distillation_weight: float | None = field(
        default=None,
        metadata={
            "title": "Preserve previous predictions",
            "tooltip": "Weight of the loss that preserves the original model's "
            "predictions where nothing was corrected. Corrected pixels have weight 1. "
            "0 turns it off. auto chooses a larger weight the more corrected pixels "
            "the original model already predicted correctly.",
            "minimum": 0,
            "maximum": 10.0,
            "decimals": 2,
            "step": 0.1,
        },
    )
    batch_size: int | None = field(
        default=None,
        metadata={
            "title": "Batch size",
            "tooltip": "Windows per step. Larger batches take more time and memory.",
            "minimum": 2,
            "maximum": 1024,
        },
    )
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    regions: tuple[Roi, ...] | None = None
    freeze_batch_norm: bool = False

    @classmethod
    def quick(cls, **chosen: Any) -> Self:
        """A minute or so for a small network on two cores."""
        return cls(**{"steps": QUICK_STEPS, **chosen})

    @classmethod
    def thorough(cls, **chosen: Any) -> Self:
        """Four times as long."""
        return cls(**{"steps": THOROUGH_STEPS, **chosen})


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a fine-tuning learns from.

    ``windows`` counts squares of the window's size with corrections to learn from,
    ``held_out`` those with corrections that are held out, ``per_class`` the first by
    class name. ``has_validation``: whether there are places enough to hold some out,
    so that a figure can be had.
    """

    windows: int
    held_out: int
    regions: int
    per_class: Mapping[str, int]
    warnings: tuple[str, ...]
    has_validation: bool

    def summary(self) -> str:
        """One line: "214 windows, 41 held out; class road has only 3"."""
        said = f"{counted(self.windows, 'window')}, {self.held_out} held out"
        return "; ".join([said, *self.warnings])
