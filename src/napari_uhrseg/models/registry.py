"""The methods by name: plain data, read without torch.

A new method is one file beside this one and one entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.models.base import Segmenter


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What people are told of a method, and where its class is.

    Parameters
    ----------
    module
        ``"module:Class"`` within this package.
    sentence
        What it is good at and what it costs.
    published
        Its paper's figures with their conditions.
    """

    name: str
    title: str
    module: str
    sentence: str
    published: str


REGISTRY: Mapping[str, ModelEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            ModelEntry(
                "plain",
                "Plain sliding window",
                "plain:Plain",
                "Any ordinary segmentation network, one window at a time: the "
                "quickest, and blind to what lies beyond the window.",
                "The baseline of every comparison: DeepLabv3+ with ResNet-18 has 86.5 "
                "mIoU on Potsdam val as SCPSeg's authors trained it.",
            ),
            ModelEntry(
                "scpseg",
                "SCPSeg",
                "scpseg:SCPSeg",
                "Squeezes twice the ground into the same window: sees the surroundings "
                "at a plain window's cost; things a few pixels thin lose a little.",
                "mIoU 87.6 Potsdam, 71.9 BLU, 74.0 DeepGlobe, 78.6 Inria (buildings "
                "alone), test sets; 1818 to 2124 MB on an RTX 4090 (IJCAI 2025).",
            ),
            ModelEntry(
                "sgnet",
                "SGNet",
                "sgnet:SGNet",
                "Reads the surroundings at full resolution in a second, lighter "
                "branch: fine detail and context, for nearly twice the time.",
                "mIoU with DeepLabv3+ ResNet-50: 75.44 DeepGlobe, 63.18 FBP, 81.21 "
                "Inria, 61.21 Gleason, 76.72 Cityscapes; 0.66 images a second against "
                "1.14 without it, 2187 MB, V100 (NeurIPS 2024).",
            ),
            ModelEntry(
                "isdnet",
                "ISDNet",
                "isdnet:ISDNet",
                "Labels whole frames at once, a light branch at full resolution and a "
                "deep one at a quarter: very quick on a GPU, memory grows with the "
                "frame.",
                "mIoU 73.30 DeepGlobe (27.7 images a second, 1948 MB), 74.23 Inria "
                "(buildings alone, 6.9, 4680 MB), 76.02 Cityscapes; 2080 Ti "
                "(CVPR 2022).",
            ),
            ModelEntry(
                "glnet",
                "GLNet",
                "glnet:GLNet",
                "Looks at an overview of the whole frame and at each window in turn, "
                "sharing features both ways: long-range context, two passes and slow.",
                "mIoU 71.6 DeepGlobe (1865 MB; 0.17 images a second as ISDNet's "
                "authors measured it), 71.2 Inria (2663 MB), 75.2 ISIC (CVPR 2019).",
            ),
            ModelEntry(
                "ehsnet",
                "EHSNet",
                "ehsnet:EHSNet",
                "Labels a frame as a whole with a high-resolution network: the larger "
                "the frame the better, and the more memory it takes.",
                "mIoU 59.48 FBP, 78.51 Inria (buildings alone) (arXiv 2211.11316).",
            ),
        )
    }
)


def model_class(name: str) -> "type[Segmenter]":
    """The class of a method; imports torch.

    Raises
    ------
    CheckpointError
        The name is unknown.
    """
    entry = REGISTRY.get(name)
    if entry is None:
        raise CheckpointError(
            f"There is no model named {name!r}.",
            f"Known models: {', '.join(REGISTRY)}. The file may need a newer "
            "version of napari-uhrseg.",
        )
    module, _, attribute = entry.module.partition(":")
    found: type[Segmenter] = getattr(
        import_module(f"napari_uhrseg.models.{module}"), attribute
    )
    return found


def build(model: str, arguments: Mapping[str, Any], legend: Legend) -> "Segmenter":
    """The network with random weights, one output channel a class of the legend.

    Parameters
    ----------
    model
        Name of a registry entry.
    arguments
        Of its constructor, without ``classes``; ``pretrained=True`` fetches
        ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        The model is unknown, or the arguments do not fit it.
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
