"""Loss terms that several methods share."""

from torch import Tensor
from torch.nn import functional as F

IGNORED = 255


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
