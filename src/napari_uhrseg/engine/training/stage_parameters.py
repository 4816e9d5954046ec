"""Parameters that a stage trains, and their learning rates by depth.

The first blocks of a pretrained encoder have general features, which need smaller
changes than later ones. They therefore have smaller learning rates: discriminative
fine-tuning (Howard and Ruder 2018, ULMFiT, arXiv 1801.06146), also called layer-wise
learning rate decay (Bao et al. 2022, BEiT, arXiv 2106.08254).
"""

import re

from torch import nn

from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.types import Stage

BLOCK = re.compile(r".*?\.\d+\.")  # name up to its first number


def set_trainable(model: Segmenter, stage: Stage) -> None:
    """Freeze all parameters that a stage does not train, and no others."""
    for name, parameter in model.named_parameters():
        trains = not stage.trainable or name.startswith(stage.trainable)
        frozen = stage.frozen_encoder and name.startswith(model.encoder_prefixes)
        parameter.requires_grad_(trains and not frozen)


def encoders(model: Segmenter) -> list[tuple[str, nn.Module]]:
    """Return the names and modules of the encoders of a network."""
    names = [prefix.rstrip(".") for prefix in model.encoder_prefixes]
    return [(name, part) for name, part in model.named_modules() if name in names]


def set_training_mode(model: Segmenter, stage: Stage) -> None:
    """Set the training mode; a frozen encoder keeps its normalisation statistics."""
    model.train()
    if stage.frozen_encoder:
        for _, encoder in encoders(model):
            encoder.eval()


def learning_rate_factors(model: Segmenter, first: float) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter by name.

    Parameters
    ----------
    model
        The network.
    first
        Factor of the first block of each encoder, above 0 and at most 1. The factors
        of n blocks increase geometrically; a block n + 1 would have 1, as all other
        parameters have.

    Returns
    -------
    dict
        Factors in the order of the parameters.
    """
    factors = {name: 1.0 for name, _ in model.named_parameters()}
    for prefix in model.encoder_prefixes:
        names = [name for name in factors if name.startswith(prefix)]
        blocks = _block_numbers(names)
        count = max(blocks, default=0) + 1
        for name, number in zip(names, blocks, strict=True):
            factors[name] = first ** ((count - number) / count)
    return factors


def _block_numbers(names: list[str]) -> list[int]:
    """Return the number of the block of each parameter, in the order of the layers.

    A block is an item of a list of layers. Layers before the first block belong to it,
    and other layers to the block before them.
    """
    seen: list[str] = []
    numbers = []
    for name in names:
        found = BLOCK.match(name)
        if found and found.group() not in seen:
            seen.append(found.group())
        numbers.append(max(0, len(seen) - 1))
    return numbers
