"""Fine-tuning loss and weight interpolation.

Three standard techniques preserve the previous predictions of a model (they reduce
catastrophic forgetting):

- Knowledge distillation (Hinton et al. 2015, Distilling the knowledge in a neural
  network, arXiv 1503.02531), used as in Learning without Forgetting (Li and Hoiem
  2016, arXiv 1606.09282): for uncorrected pixels, the original model's prediction is
  the target. Targets are hard classes, not probabilities.
- Replay: a share of the training windows lies anywhere in the labelled area, see
  `correction_dataset`.
- WiSE-FT (Wortsman et al. 2022, Robust fine-tuning of zero-shot models, CVPR): the
  saved weights lie between the original and the fine-tuned ones.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from napari_uhrseg.engine.training.step_memory import FULL_BATCH, LossWeights
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.types import HELD_OUT, IGNORED

TEACHER_CONFIDENCE = 0.5  # least probability of a prediction that becomes a target
ERROR_CELL = 8  # side in pixels of the cells in which errors are marked
ERROR_MARGIN = 8  # cells around an error in which its class is not a target
MIN_WEIGHT, MAX_WEIGHT = 0.25, 2.0  # bounds of the distillation weight
FULL_WEIGHT_ACCURACY = 0.25  # accuracy above which the weight is at least 1
WISE_FT_ALPHA = 0.7  # share of the fine-tuned weights; measured, see
# docs/finetuning.md


def distillation_weight(accuracy: float) -> float:
    """Return the weight of distillation for a model's accuracy on the corrections.

    The weight is the odds of a correct prediction, within bounds. A model that is wrong
    on all corrections may change everywhere. Users paint over mistakes, so a model is
    more accurate elsewhere than on the corrections.
    """
    odds = accuracy / max(1 - accuracy, 1e-6)
    least = max(min(accuracy / FULL_WEIGHT_ACCURACY, 1), MIN_WEIGHT)
    return min(max(odds, least), MAX_WEIGHT)


def interpolate_weights(old: Segmenter, new: Segmenter) -> Segmenter:
    """Return a copy of ``new`` with weights interpolated towards ``old`` (WiSE-FT).

    Fine-tuned weights fit the corrections better than the rest of the image. Weights
    between them and the original ones fit both. Running statistics of normalisation are
    interpolated too.
    """
    found, before = copy.deepcopy(new), old.state_dict()
    for name, tensor in found.state_dict().items():  # tensors share its memory
        if tensor.is_floating_point():
            tensor.copy_(before[name].lerp(tensor, WISE_FT_ALPHA))
    return found


@dataclass(frozen=True)
class DistillationLoss:
    """Loss on the corrections, plus the same loss for knowledge distillation.

    The original model's prediction is the target of a pixel if the pixel is not
    corrected, the model was confident, and the same class is not corrected nearby. Most
    pixels around a corrected mistake are mistakes too.

    Parameters
    ----------
    old
        The original model (teacher), in eval mode on the device. Its channels are the
        first channels of the trained model.
    weight
        Weight of the distillation term, against 1 for the corrections.
    """

    old: Segmenter
    weight: float

    def __call__(
        self, model: Segmenter, batch: Batch, weights: LossWeights = FULL_BATCH
    ) -> dict[str, Tensor]:
        """Return the loss terms of a micro-batch, ``"loss"`` among them.

        Parameters
        ----------
        model
            The network to train.
        batch
            A micro-batch with targets, on the network's device.
        weights
            Shares of the step's pixels in this micro-batch.
        """
        assert batch.target is not None
        around = batch.surrounding_target
        corrected = replace(
            batch,
            target=_without_held_out(batch.target),
            surrounding_target=None if around is None else _without_held_out(around),
        )
        outputs = model(batch)
        terms = model.loss(outputs, corrected)
        terms = {name: weights.labelled * term for name, term in terms.items()}
        if not self.weight:
            return terms
        kept = replace(batch, target=self.targets(batch), surrounding_target=None)
        keeping = weights.unlabelled * model.loss(outputs, kept)["loss"]
        loss = (terms["loss"] + self.weight * keeping) / (1 + self.weight)
        named = {f"corrections {k}": v for k, v in terms.items() if k != "loss"}
        return {"loss": loss, "corrections": terms["loss"], "kept": keeping, **named}

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Return the teacher's classes that are targets; 255 for other pixels.

        Shape and dtype are those of the batch's target, (N, h, w) int64.
        """
        assert batch.target is not None
        probabilities = self.old(batch)["logits"].float().softmax(1)
        confidence, predicted = probabilities.max(1)
        target = _without_held_out(batch.target)
        wrong = (target != IGNORED) & (target != predicted)
        errors = torch.zeros_like(probabilities)
        errors.scatter_(1, predicted[:, None], wrong[:, None].to(errors.dtype))
        doubtful = _dilate(errors).gather(1, predicted[:, None])[:, 0] > 0
        unlabelled = batch.target == IGNORED
        kept = unlabelled & (confidence >= TEACHER_CONFIDENCE) & ~doubtful
        targets: Tensor = predicted.where(kept, IGNORED)
        return targets


def _dilate(marks: Tensor) -> Tensor:
    """Spread (N, K, h, w) marks by `ERROR_MARGIN` cells of `ERROR_CELL` pixels."""
    cells = functional.max_pool2d(marks, ERROR_CELL, ceil_mode=True)
    near = functional.max_pool2d(
        cells, 2 * ERROR_MARGIN + 1, stride=1, padding=ERROR_MARGIN
    )
    whole = functional.interpolate(near, scale_factor=ERROR_CELL)
    return whole[..., : marks.shape[-2], : marks.shape[-1]]


def _without_held_out(target: Tensor) -> Tensor:
    """Return the target with pixels of validation regions ignored."""
    return target.masked_fill(target == HELD_OUT, IGNORED)
