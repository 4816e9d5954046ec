"""A network with more classes than it was trained with, and none of it forgotten."""

import torch
from torch import Tensor

from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, LabelClass, Legend

WHITE = "#ffffff"


def with_more_classes(model: Segmenter, card: Card, legend: Legend) -> Segmenter:
    """A copy of the network whose legend is that of the card and further classes.

    Parameters
    ----------
    model, card
        As loaded from a checkpoint; left as they are.
    legend
        Its first classes are those of the card's legend, in that order.

    Returns
    -------
    Segmenter
        In eval mode on the model's device. Every weight that does not depend on the
        number of classes is copied. A new class starts as the mean of those there
        are: its logit, a mean of theirs, is never the highest, so the labels stay the
        same until it has learnt.

    Raises
    ------
    ValueError
        The legend has fewer classes than the network.
    CheckpointError
        The model cannot be built from the card.
    """
    if len(legend) < len(card.legend):
        raise ValueError(f"{len(legend)} classes are fewer than {len(card.legend)}")
    made = build(card.model, card.arguments, legend)
    made.spec = model.spec
    for part in made.training_only_modules:
        owner, _, name = part.rpartition(".")
        if getattr(model.get_submodule(owner), name) is None:
            setattr(made.get_submodule(owner), name, None)
    known = model.state_dict()
    made.load_state_dict(
        {name: _widened(known[name], new) for name, new in made.state_dict().items()}
    )
    return made.to(next(model.parameters()).device).eval()


def head_parameters(card: Card) -> tuple[str, ...]:
    """Names of the parameters that depend on the number of classes."""
    classes = tuple(card.legend)
    fewer, more = Legend(classes[:1]), Legend(classes[:2])
    if len(classes) < 2:
        more = fewer.merged(Legend((LabelClass(1, f"not {classes[0].name}", WHITE),)))
    with torch.device("meta"):
        one, two = (build(card.model, card.arguments, x) for x in (fewer, more))
    shapes = {name: p.shape for name, p in two.named_parameters()}
    return tuple(n for n, p in one.named_parameters() if p.shape != shapes[n])


def _widened(old: Tensor, new: Tensor) -> Tensor:
    """The old rows, then their mean for each row that is new."""
    if old.shape == new.shape:
        return old
    (axis,) = (i for i, n in enumerate(old.shape) if n != new.shape[i])
    missing = new.shape[axis] - old.shape[axis]
    mean = old.mean(axis, keepdim=True)
    return torch.cat([old, mean.repeat_interleave(missing, axis)], axis)
