"""What a fine-tuning minimises: corrections teach, the old answer is held elsewhere.

And what of the old network its weights keep.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from napari_uhrseg.engine.training.step_memory import FULL_BATCH, LossWeights
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.types import HELD_OUT, IGNORED

TEACHER_CONFIDENCE = 0.5  # probability below which an old answer is not worth holding
ERROR_CELL, ERROR_MARGIN = (
    8,
    8,
)  # pixels; cells that doubt reaches beyond a pixel found wrong
MIN_WEIGHT, MAX_WEIGHT = 0.25, 2.0  # weights of old answers
FULL_WEIGHT_ACCURACY = (
    0.25  # of the corrections right; from there on old answers weigh 1 at least
)
WISE_FT_ALPHA = (
    0.7  # from the old weights to the new ones; measured, see docs/finetuning.md
)


def distillation_weight(right: float) -> float:
    """The weight of old answers, from the share of corrections they had right.

    The odds that such an answer is right, within bounds: a model that is wrong
    wherever somebody looked may change everywhere, a good one is held to. People
    paint over mistakes, so a model that has some corrections right is better
    elsewhere than where they painted.
    """
    return min(
        max(
            right / max(1 - right, 1e-6),
            min(right / FULL_WEIGHT_ACCURACY, 1),
            MIN_WEIGHT,
        ),
        MAX_WEIGHT,
    )


def interpolate_weights(old: Segmenter, new: Segmenter) -> Segmenter:
    """A copy of a network whose weights lie on the way from the old ones to the new.

    Fine-tuned weights fit what was corrected better than they fit the rest of the
    ground, and the line to the old ones leads past weights that fit both (Wortsman et
    al., Robust fine-tuning of zero-shot models, CVPR 2022). Statistics of
    normalisation go along.
    """
    found, before = copy.deepcopy(new), old.state_dict()
    for name, tensor in found.state_dict().items():  # they share its memory
        if tensor.is_floating_point():
            tensor.copy_(before[name].lerp(tensor, WISE_FT_ALPHA))
    return found


@dataclass(frozen=True)
class DistillationLoss:
    """The method's own loss twice: on what was corrected, and on the old answers.

    An old answer is held where nothing was corrected, the old model was sure, and
    the same answer was not found wrong nearby: what a stroke mends is mostly wrong
    around the stroke too.

    Parameters
    ----------
    old
        The model as it was, in eval mode on the device; its channels come first.
    weight
        Of the old answers, against 1 for the corrections.
    """

    old: Segmenter
    weight: float

    def __call__(
        self, model: Segmenter, batch: Batch, weights: LossWeights = FULL_BATCH
    ) -> dict[str, Tensor]:
        assert batch.target is not None
        taught = replace(
            batch,
            target=_without_held_out(batch.target),
            surrounding_target=None
            if batch.surrounding_target is None
            else _without_held_out(batch.surrounding_target),
        )
        outputs = model(batch)
        terms = model.loss(outputs, taught)
        terms = {name: weights.labelled * term for name, term in terms.items()}
        if not self.weight:
            return terms
        held = replace(batch, target=self.answers(batch), surrounding_target=None)
        keeping = weights.unlabelled * model.loss(outputs, held)["loss"]
        loss = (terms["loss"] + self.weight * keeping) / (1 + self.weight)
        named = {f"corrections {k}": v for k, v in terms.items() if k != "loss"}
        return {"loss": loss, "corrections": terms["loss"], "kept": keeping, **named}

    @torch.no_grad()
    def answers(self, batch: Batch) -> Tensor:
        """The old model's classes where they are held, else 255; like the target."""
        assert batch.target is not None
        chances = self.old(batch)["logits"].float().softmax(1)
        chance, answer = chances.max(1)
        target = _without_held_out(batch.target)
        wrong = (target != IGNORED) & (target != answer)
        found = torch.zeros_like(chances)
        found.scatter_(1, answer[:, None], wrong[:, None].to(found.dtype))
        doubt = _dilate(found).gather(1, answer[:, None])[:, 0] > 0
        held = (batch.target == IGNORED) & (chance >= TEACHER_CONFIDENCE) & ~doubt
        kept: Tensor = answer.where(held, IGNORED)
        return kept


def _dilate(marks: Tensor) -> Tensor:
    """(N, K, H, W) marks spread to some `CELL` x `REACH` pixels around them."""
    cells = functional.max_pool2d(marks, ERROR_CELL, ceil_mode=True)
    near = functional.max_pool2d(
        cells, 2 * ERROR_MARGIN + 1, stride=1, padding=ERROR_MARGIN
    )
    whole = functional.interpolate(near, scale_factor=ERROR_CELL)
    return whole[..., : marks.shape[-2], : marks.shape[-1]]


def _without_held_out(target: Tensor) -> Tensor:
    """Without the pixels of held-out places."""
    return target.masked_fill(target == HELD_OUT, IGNORED)
