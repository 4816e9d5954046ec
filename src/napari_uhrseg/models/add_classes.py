"""Extension of a network's classification head by further classes."""

import torch
from torch import Tensor

from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, LabelClass, Legend

WHITE = "#ffffff"


def with_more_classes(model: Segmenter, card: Card, legend: Legend) -> Segmenter:
    """Return a copy of the network with outputs for further classes.

    Parameters
    ----------
    model, card
        Network and card of a checkpoint; not changed.
    legend
        Classes of the copy. The first ones are those of the card, in its order.

    Returns
    -------
    Segmenter
        The network in eval mode on the model's device. Weights that do not depend on
        the number of classes are copied. The weights of a new class are the mean over
        the classes. Its logit is a mean of theirs and never the highest, so that the
        labels are the same until it is trained.

    Raises
    ------
    ValueError
        If the legend has fewer classes than the card.
    CheckpointError
        If the model cannot be built from the card.
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
    """Return the names of parameters that depend on the number of classes."""
    classes = tuple(card.legend)
    fewer, more = Legend(classes[:1]), Legend(classes[:2])
    if len(classes) < 2:
        more = fewer.merged(Legend((LabelClass(1, f"not {classes[0].name}", WHITE),)))
    with torch.device("meta"):
        one, two = (build(card.model, card.arguments, x) for x in (fewer, more))
    shapes = {name: p.shape for name, p in two.named_parameters()}
    return tuple(n for n, p in one.named_parameters() if p.shape != shapes[n])


def _widened(old: Tensor, new: Tensor) -> Tensor:
    """Return the old rows, followed by their mean for each new row."""
    if old.shape == new.shape:
        return old
    (axis,) = (i for i, n in enumerate(old.shape) if n != new.shape[i])
    missing = new.shape[axis] - old.shape[axis]
    mean = old.mean(axis, keepdim=True)
    return torch.cat([old, mean.repeat_interleave(missing, axis)], axis)
