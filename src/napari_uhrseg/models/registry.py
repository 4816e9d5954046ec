"""Registry of the methods: plain data, read without torch.

A new method is one module in this package and one entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.timm_import import import_timm
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.models.base import Segmenter


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """Entry of a method: its class, description and defaults.

    Parameters
    ----------
    name
        Name in cards and on the command line.
    title
        Name for users.
    module
        ``"module:Class"`` within this package.
    sentence
        Strength and cost of the method.
    published
        Results in its paper, with their conditions.
    steps, batch_size, learning_rate
        Defaults of a training run: the numbers of the class's recipe.
    default
        True for the method that the window selects first; only one entry.
    live
        True for the method that is trained while a user paints; only one entry.
    needs_second_file
        True if an import of this method may need a second file of weights.
    encoder_family
        Encoders to choose from: ``"hrnet"``, ``"any"`` convolutional one, or only the
        ``"default"`` one.
    first_arguments
        Arguments of a new model that is trained on corrections alone. Fine decoders
        and small windows need the fewest of them.
    small_arguments
        Arguments of a network that is small enough for tests and quick trials.
    """

    name: str
    title: str
    module: str
    sentence: str
    published: str
    steps: int
    batch_size: int
    learning_rate: float
    default: bool = False
    live: bool = False
    needs_second_file: bool = False
    encoder_family: Literal["any", "default", "hrnet"] = "any"
    first_arguments: Mapping[str, Any] = field(default_factory=dict)
    small_arguments: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_ENCODER = "tu-tf_efficientnet_lite0"
"""Encoder of new models. Its ImageNet weights are part of the package."""
SMALL_SMP = {"encoder": "tu-test_efficientnet", "options": {"decoder_channels": 16}}
SMALL_TIMM = {"encoder": "test_efficientnet", "width": 8}
ENTRIES = (
    ModelEntry(
        name="plain",
        title="Plain sliding window",
        module="plain:Plain",
        sentence="Any segmentation network, one window at a time: the fastest method, "
        "without context beyond the window.",
        published="The baseline of every comparison: DeepLabv3+ with ResNet-18 has "
        "86.5 mIoU on Potsdam val as trained by SCPSeg's authors.",
        steps=40_000,
        batch_size=16,
        learning_rate=0.01,
        first_arguments={"architecture": "Unet", "window": 256},
        small_arguments={**SMALL_SMP, "window": 64},
    ),
    ModelEntry(
        name="scpseg",
        title="SCPSeg",
        module="scpseg:SCPSeg",
        sentence="Sees twice the field of view at the cost of a plain window. Objects "
        "of a few pixels lose some accuracy.",
        published="mIoU 87.6 Potsdam, 71.9 BLU, 74.0 DeepGlobe, 78.6 Inria (building "
        "class), test sets; 1818 to 2124 MB on an RTX 4090 (IJCAI 2025).",
        steps=40_000,
        batch_size=16,
        learning_rate=0.01,
        default=True,
        small_arguments={
            **SMALL_SMP,
            "patch": 128,
            "window": 64,
            "inner": 48,
            "sr_width": 8,
        },
    ),
    ModelEntry(
        name="sgnet",
        title="SGNet",
        module="sgnet:SGNet",
        sentence="Reads the surroundings at full resolution in a second, lighter "
        "branch: fine detail and context, in 1.5 to 1.7 times the time.",
        published="mIoU with DeepLabv3+ ResNet-50: 75.44 DeepGlobe, 63.18 FBP, 81.21 "
        "Inria, 61.21 Gleason, 76.72 Cityscapes; 0.66 images per second against 1.14 "
        "without it, 2187 MB, V100 (NeurIPS 2024).",
        steps=30_000,
        batch_size=8,
        learning_rate=2e-4,
        small_arguments={
            **SMALL_SMP,
            "window": 64,
            "width": 8,
            "heads": 2,
            "shallow_width": 8,
        },
    ),
    ModelEntry(
        name="isdnet",
        title="ISDNet",
        module="isdnet:ISDNet",
        sentence="Labels whole frames with a light branch at full resolution and a "
        "deep one at a quarter: very fast on a GPU; memory grows with the frame.",
        published="mIoU 73.30 DeepGlobe (27.7 images per second, 1948 MB), 74.23 Inria "
        "(building class; 6.9, 4680 MB), 76.02 Cityscapes; 2080 Ti (CVPR 2022).",
        steps=80_000,
        batch_size=8,
        learning_rate=0.01,
        small_arguments={**SMALL_TIMM, "window": 64, "frame": 128},
    ),
    ModelEntry(
        name="glnet",
        title="GLNet",
        module="glnet:GLNet",
        sentence="Reads an overview of the frame and each patch, and shares features "
        "in both directions: long-range context, two passes, slow.",
        published="mIoU 71.6 DeepGlobe (1865 MB; 0.17 images per second as measured by "
        "ISDNet's authors), 71.2 Inria (2663 MB), 75.2 ISIC (CVPR 2019).",
        steps=21_943,
        batch_size=6,
        learning_rate=5e-5,
        needs_second_file=True,
        first_arguments={"patches_per_step": 2},
        small_arguments={**SMALL_TIMM, "patch": 64, "overview": 64, "frame": 128},
    ),
    ModelEntry(
        name="ehsnet",
        title="EHSNet",
        module="ehsnet:EHSNet",
        sentence="Labels frames of the size of its training crops with a "
        "high-resolution network. Memory grows with the frame.",
        published="mIoU 59.48 FBP, 78.51 Inria (building class) (arXiv 2211.11316).",
        steps=10_000,
        batch_size=3,
        learning_rate=0.01,
        encoder_family="hrnet",
        small_arguments={
            "encoder": "hrnet_w18_small",
            "width": 8,
            "window": 64,
            "frame": 128,
        },
    ),
    ModelEntry(
        name="pixel_classifier",
        title="Pixel classifier",
        module="pixel_classifier:PixelClassifier",
        sentence="A linear classifier on fixed features of each pixel: trained from "
        "strokes in about a second, with little context.",
        published="No published result: the method of ilastik (Nature Methods 2019) "
        "and convpaint, with this program's features.",
        steps=2_000,
        batch_size=8,
        learning_rate=1e-3,
        live=True,
        encoder_family="default",
        small_arguments={"encoder": "test_efficientnet", "window": 64},
    ),
)
REGISTRY: Mapping[str, ModelEntry] = MappingProxyType({e.name: e for e in ENTRIES})
DEFAULT_MODEL = next(entry.name for entry in ENTRIES if entry.default)
LIVE_MODEL = next(entry.name for entry in ENTRIES if entry.live)


def default_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of a new network that are not those of its constructor."""
    if name not in REGISTRY or REGISTRY[name].encoder_family == "hrnet":
        return {}
    return {"encoder": DEFAULT_ENCODER}


def model_class(name: str) -> "type[Segmenter]":
    """Return the class of a method; imports torch.

    Raises
    ------
    CheckpointError
        If the name is unknown.
    """
    entry = REGISTRY.get(name)
    if entry is None:
        raise CheckpointError(
            f"There is no model named {name!r}.",
            f"Known models: {', '.join(REGISTRY)}. The file may need a newer "
            "version of napari-uhrseg.",
        )
    module, _, attribute = entry.module.partition(":")
    import_timm()  # most methods need it
    found: type[Segmenter] = getattr(
        import_module(f"napari_uhrseg.models.{module}"), attribute
    )
    return found


def build(model: str, arguments: Mapping[str, Any], legend: Legend) -> "Segmenter":
    """Build a network with random weights and one output channel for each class.

    Parameters
    ----------
    model
        Name of a registry entry.
    arguments
        Arguments of its constructor, without ``classes``. ``pretrained=True``
        downloads ImageNet weights of the encoder.
    legend
        Classes in the order of the output channels.

    Returns
    -------
    Segmenter
        The network in training mode, on the CPU.

    Raises
    ------
    CheckpointError
        If the model is unknown, or the arguments do not fit it.
    """
    made = model_class(model)
    try:
        return made(classes=len(legend), **arguments)
    except CheckpointError:
        raise
    except Exception as error:  # arguments from a file may be anything
        raise CheckpointError(
            f"The model {model!r} cannot be built with {dict(arguments)}: {error}",
            "Check the arguments' names and values.",
        ) from error
