"""Loss terms that several methods share."""

from torch import Tensor
from torch.nn import functional

IGNORE = 255


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy over the pixels that are labelled.

    Parameters
    ----------
    logits
        (N, K, H, W).
    target
        (N, H, W) int64 class indices; 255 is ignored.

    Returns
    -------
    Tensor
        Scalar; 0 (not NaN) where nothing is labelled.
    """
    total = functional.cross_entropy(
        logits, target, ignore_index=IGNORE, reduction="sum"
    )
    return total / (target != IGNORE).sum().clamp(min=1)
