"""Loss terms of the methods."""

import math

from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from napari_uhrseg.models.blocks.common import no_autocast
from napari_uhrseg.types import IGNORED

AFFINITIES = 2**22  # entries of the affinity matrix computed at a time: 16 MB
SOBEL = 5  # side of the kernel that finds class borders


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


def structure_distillation(
    features: Tensor, guide: Tensor, affinities: int = AFFINITIES
) -> Tensor:
    """Return ISDNet's structure distillation loss (eq. 7), in float32.

    It is the mean absolute difference of the affinities of all pairs of pixels.

    Parameters
    ----------
    features
        (N, C, h, w) float, features of the deep branch.
    guide
        (N, C', h, w) float, features of super-resolution. They get no gradient.
    affinities
        Entries of the N (h w)^2 affinities that are computed at a time, but at least
        one row. The backward pass computes them again. About five times 4 bytes per
        entry exist at once: 84 MB by default, for any size.

    Returns
    -------
    Tensor
        A scalar, at least 0.
    """
    with no_autocast(features):
        x, y = _unit(features), _unit(guide.detach())
        places = x.shape[-1]
        rows = max(1, affinities // (len(x) * places))
        total = x.new_zeros(())
        for start in range(0, places, rows):
            total = total + checkpoint(
                _difference, x, y, slice(start, start + rows),
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
        return total / (len(x) * places**2)


def _difference(x: Tensor, y: Tensor, rows: slice) -> Tensor:
    ours = x[..., rows].transpose(1, 2) @ x
    theirs = y[..., rows].transpose(1, 2) @ y
    return (ours - theirs).abs().sum()


def _unit(maps: Tensor) -> Tensor:
    """Return (N, C, pixels); each channel has unit length over the pixels."""
    maps = maps.float().flatten(2)
    unit: Tensor = maps / (maps.norm(dim=2, keepdim=True) + 1e-6)
    return unit


def border_weights(target: Tensor, more: float = 1.0) -> Tensor:
    """Return EHSNet's weight of each pixel (eq. 6): larger near a class border.

    A pixel is near a border if the class changes within two pixels.

    Parameters
    ----------
    target
        (N, H, W) int64 class indices. 255 is ignored: not a class, without a border.
    more
        Weight that is added to 1 near a border, at least 0.

    Returns
    -------
    Tensor
        (N, H, W) float32. The border of the frame is not a class border.
    """
    known = target != IGNORED
    values = target.float()
    highest = _maximum(values.where(known, -1))
    lowest = -_maximum((-values).where(known, -IGNORED))
    return 1 + more * ((highest > lowest) & known).float()


def _maximum(values: Tensor) -> Tensor:
    return F.max_pool2d(values, SOBEL, stride=1, padding=SOBEL // 2)
