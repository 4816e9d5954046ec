"""Losses by name.

A new loss is a function of the type `LossFn` and one line in `LOSSES`. Its name belongs
to the identity of a training. The memory of a step is planned with the model's own
loss, see `step_memory`.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from napari_uhrseg.engine.training.step_memory import LossWeights
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.base import Batch, Segmenter

LossFn = Callable[[Segmenter, Batch, LossWeights], dict[str, Tensor]]
"""Function that returns the loss terms of a micro-batch, ``"loss"`` among them.

The terms of all micro-batches of a step add up to those of the step. The model is in
training mode.
"""


def model_loss(
    model: Segmenter, batch: Batch, weights: LossWeights
) -> dict[str, Tensor]:
    """Return the loss of the method's paper, as the model implements it.

    Parameters
    ----------
    model
        The network, in training mode.
    batch
        A micro-batch with targets, on the network's device.
    weights
        Shares of the step's pixels in this micro-batch.

    Returns
    -------
    dict
        Scalar tensors by name; ``"loss"`` is minimised.
    """
    terms = model.loss(model(batch), batch)
    return {name: weights.labelled * term for name, term in terms.items()}


LOSSES: Mapping[str, LossFn] = {"model": model_loss}
"""Losses by name; ``"model"`` is the default."""


def find_loss(name: str) -> LossFn:
    """Return the loss of this name.

    Raises
    ------
    TrainingError
        If there is no loss of this name.
    """
    if name not in LOSSES:
        raise TrainingError(
            f"There is no loss named {name}.", f"Choose among {', '.join(LOSSES)}."
        )
    return LOSSES[name]
