"""Loss terms that several methods share."""

import math

from torch import Tensor
from torch.nn import functional as F

from napari_uhrseg.types import IGNORED


def cross_entropy(
    logits: Tensor, target: Tensor | None, weight: Tensor | None = None
) -> Tensor:
    """Return the mean cross entropy of the labelled pixels, in float32.

    Parameters
    ----------
    logits
        (N, K, H, W) float.
    target
        (N, H, W) int64 class indices; 255 is ignored.
    weight
        (N, H, W) weight of each pixel; ``None``: 1. The sum is divided by the number
        of labelled pixels, not by the sum of the weights.

    Returns
    -------
    Tensor
        A scalar; 0 if no pixel is labelled.

    Raises
    ------
    ValueError
        If ``target`` is ``None``.
    """
    if target is None:
        raise ValueError("a loss needs a target")
    each = F.cross_entropy(
        logits.float(), target, ignore_index=IGNORED, reduction="none"
    )
    total = (each if weight is None else each * weight).sum()
    return total / (target != IGNORED).sum().clamp(min=1)


def focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Return the focal loss at the logits' resolution: mean of -(1 - p)^gamma log p.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. Computed in float32.

    Parameters
    ----------
    logits
        (N, K, h, w) float.
    target
        (N, H, W) int64 class indices of any size, resized to the nearest pixel; 255 is
        ignored.
    gamma
        Focusing parameter, at least 0; 0 gives the cross entropy.

    Returns
    -------
    Tensor
        A scalar; 0 if no pixel is labelled.
    """
    small = F.interpolate(
        target[:, None].float(), size=logits.shape[-2:], mode="nearest-exact"
    )[:, 0].long()
    known = small != IGNORED
    each = F.log_softmax(logits.float(), dim=1)
    log_p = each.gather(1, small.where(known, 0)[:, None])[:, 0]
    # p is limited to the range of GLNet's code, without 0 and 1
    log_p = log_p.clamp(math.log(1e-7), math.log1p(-1e-7))
    loss = -((1 - log_p.exp()) ** gamma) * log_p
    return loss.where(known, 0).sum() / known.sum().clamp(min=1)
