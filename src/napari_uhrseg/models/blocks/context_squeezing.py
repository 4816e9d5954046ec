"""Context squeezing: twice the ground in a picture of the same size.

::

    M   L   M                    T  D  T          M = (G - L) / 2
    1 | 2 | 3   M                1| 2 |3  T       T = (L - D) / 2
    4 | 5 | 6   L      ->        4| 5 |6  D
    7 | 8 | 9   M                7| 8 |9  T       G x G  ->  L x L
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def squeeze(patch: Tensor, local: int, inner: int, antialias: bool = False) -> Tensor:
    """Resize each of the nine cells by itself and put them together again.

    Parameters
    ----------
    patch
        (N, C, G, G) float, the window and its surroundings.
    local
        L, the side of the window at the centre, and of the result.
    inner
        D, the side the window is squeezed to.

    Returns
    -------
    Tensor
        (N, C, L, L). Bilinear, align_corners False: no cell sees its neighbours.
    """
    margin, target = (patch.shape[-1] - local) // 2, (local - inner) // 2
    sources, targets = [margin, local, margin], [target, inner, target]
    if target == 0:  # no room for context: the window itself
        return patch[..., margin : margin + local, margin : margin + local]
    rows = []
    for row, height in zip(torch.split(patch, sources, -2), targets, strict=True):
        cells = [
            F.interpolate(
                cell,
                size=(height, width),
                mode="bilinear",
                align_corners=False,
                antialias=antialias,
            )
            for cell, width in zip(torch.split(row, sources, -1), targets, strict=True)
        ]
        rows.append(torch.cat(cells, dim=-1))
    return torch.cat(rows, dim=-2)
