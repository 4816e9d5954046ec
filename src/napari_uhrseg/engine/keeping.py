"""What a fine-tuning minimises: corrections teach, the old answer is held elsewhere."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_uhrseg.engine.corrected import SECRET
from napari_uhrseg.engine.samples import IGNORED
from napari_uhrseg.models.base import Batch, Segmenter

SURE = 0.5  # probability below which an old answer is not worth holding


@dataclass(frozen=True)
class Keeping:
    """The method's own loss twice: on what was corrected, and on the old answers.

    An old answer is held where nothing was corrected, the old model was sure, and
    the same answer was not found wrong in the same window: what a stroke mends is
    mostly wrong beyond the stroke too.

    Parameters
    ----------
    old
        The model as it was, in eval mode on the device; its channels come first.
    weight
        Of the old answers, against 1 for the corrections.
    """

    old: Segmenter
    weight: float

    def __call__(self, model: Segmenter, batch: Batch) -> dict[str, Tensor]:
        assert batch.target is not None
        taught = replace(
            batch,
            target=_known(batch.target),
            surrounding_target=None
            if batch.surrounding_target is None
            else _known(batch.surrounding_target),
        )
        outputs = model(batch)
        terms = model.loss(outputs, taught)
        if not self.weight:
            return terms
        held = replace(batch, target=self.answers(batch), surrounding_target=None)
        keeping = model.loss(outputs, held)["loss"]
        loss = (terms["loss"] + self.weight * keeping) / (1 + self.weight)
        named = {f"corrections {k}": v for k, v in terms.items() if k != "loss"}
        return {"loss": loss, "corrections": terms["loss"], "kept": keeping, **named}

    @torch.no_grad()
    def answers(self, batch: Batch) -> Tensor:
        """The old model's classes where they are held, else 255; like the target."""
        assert batch.target is not None
        chances = self.old(batch)["logits"].float().softmax(1)
        chance, answer = chances.max(1)
        target = _known(batch.target)
        wrong = (target != IGNORED) & (target != answer)
        doubtful = torch.zeros(
            chances.shape[:2], dtype=torch.bool, device=chance.device
        )
        sample = torch.arange(len(target), device=target.device)[:, None, None]
        doubtful[sample.expand_as(target)[wrong], answer[wrong]] = True
        doubt = doubtful.gather(1, answer.flatten(1)).view_as(answer)
        held = (batch.target == IGNORED) & (chance >= SURE) & ~doubt
        kept: Tensor = answer.where(held, IGNORED)
        return kept


def _known(target: Tensor) -> Tensor:
    """Without the pixels of held-out places."""
    return target.masked_fill(target == SECRET, IGNORED)
