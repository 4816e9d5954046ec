"""Loss terms that several methods share."""

import math

from torch import Tensor
from torch.nn import functional as F

from napari_uhrseg.types import IGNORED


def cross_entropy(
    logits: Tensor, target: Tensor | None, weight: Tensor | None = None
) -> Tensor:
    """Mean over the labelled pixels, in float32; 0 (not NaN) where there is none.

    Parameters
    ----------
    logits
        (N, K, H, W).
    target
        (N, H, W) int64 class indices; 255 is ignored.
    weight
        (N, H, W) of each pixel; the mean is over pixels, not over weights.
    """
    if target is None:
        raise ValueError("a loss needs a target")
    each = F.cross_entropy(
        logits.float(), target, ignore_index=IGNORED, reduction="none"
    )
    total = (each if weight is None else each * weight).sum()
    return total / (target != IGNORED).sum().clamp(min=1)


def focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Focal loss at the logits' resolution, in float32: mean of -(1 - p)^gamma log p.

    Parameters
    ----------
    logits
        (N, K, h, w).
    target
        (N, H, W) int64 class indices of any size, resized by the nearest pixel; 255
        is ignored.
    """
    small = F.interpolate(
        target[:, None].float(), size=logits.shape[-2:], mode="nearest-exact"
    )[:, 0].long()
    known = small != IGNORED
    each = F.log_softmax(logits.float(), dim=1)
    log_p = each.gather(1, small.where(known, 0)[:, None])[:, 0]
    # p kept off 0 and 1 as in GLNet's code
    log_p = log_p.clamp(math.log(1e-7), math.log1p(-1e-7))
    loss = -((1 - log_p.exp()) ** gamma) * log_p
    return loss.where(known, 0).sum() / known.sum().clamp(min=1)
