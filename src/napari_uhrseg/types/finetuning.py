"""Settings of a fine-tuning, and a summary of its training data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from napari_uhrseg.types.regions import Roi
from napari_uhrseg.units import counted

QUICK_STEPS, THOROUGH_STEPS = 100, 400
FIRST_STEPS = 220  # of a network trained from scratch: about five minutes on two cores


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """Hyperparameters of a fine-tuning; ``None`` is chosen automatically.

    The metadata of the fields are used to build forms.

    Parameters
    ----------
    steps
        Optimizer steps, at least 1.
    learning_rate
        Initial learning rate, above 0.
    trainable
        Layers to train: all, all but the encoder, or the last layer.
    distillation_weight
        Weight of the original model's predictions for uncorrected pixels, against 1
        for the corrections; at least 0. ``None``: chosen by the accuracy of the
        original model on the corrections.
    batch_size
        Windows of a step, at least 2.
    seed
        Seed of samples and dropout.
    device, precision
        Device id or ``"auto"``, and arithmetic of the forward pass.
    regions
        Level-0 rectangles to train on; ``None``: every correction.
    compares
        If True, hold out regions for a new network, too, and compare it with a pixel
        classifier on them. Both are trained on the other regions.
    """

    steps: int | None = field(
        default=None,
        metadata={
            "title": "Steps",
            "tooltip": "Number of optimization steps.",
            "minimum": 1,
        },
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "title": "Learning rate",
            "tooltip": "Step size of the optimizer. Larger values learn faster but "
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
            "tooltip": "Layers to train. The others are frozen, which is faster and "
            "forgets less.",
            "names": {
                "all": "all",
                "decoder": "all but the encoder",
                "head": "only the last layer",
            },
        },
    )
    distillation_weight: float | None = field(
        default=None,
        metadata={
            "title": "Preserve previous predictions",
            "tooltip": "Weight of the previous model's predictions where nothing is "
            "corrected, compared with 1 for the corrections. 0 allows any change "
            "there. Auto: the more corrections the previous model predicts "
            "correctly, the higher the weight.",
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
            "tooltip": "Windows per step. More windows need more time and memory.",
            "minimum": 2,
            "maximum": 1024,
        },
    )
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    regions: tuple[Roi, ...] | None = None
    compares: bool = False

    @classmethod
    def quick(cls, **chosen: Any) -> Self:
        """Return settings that take about a minute for a small network on two cores."""
        return cls(**{"steps": QUICK_STEPS, **chosen})

    @classmethod
    def thorough(cls, **chosen: Any) -> Self:
        """Return settings that take four times as long as ``quick()``."""
        return cls(**{"steps": THOROUGH_STEPS, **chosen})


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """Summary of the training data of a fine-tuning.

    Parameters
    ----------
    windows
        Windows with corrections to train on.
    held_out
        Windows with corrections held out for validation.
    regions
        Separate regions with corrections.
    per_class
        Training windows by class name.
    warnings
        Warnings to show to the user.
    has_validation
        True if there are enough regions for validation, so that the accuracy can be
        estimated.
    """

    windows: int
    held_out: int
    regions: int
    per_class: Mapping[str, int]
    warnings: tuple[str, ...]
    has_validation: bool

    def summary(self) -> str:
        """Return one line: "214 windows, 41 for validation; road: only 3 windows"."""
        counts = f"{counted(self.windows, 'window')}, {self.held_out} for validation"
        return "; ".join([counts, *self.warnings])
