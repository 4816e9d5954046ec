"""Context squeezing of SCPSeg (section 3.2, eq. 1 to 4).

Liu et al., "Squeezing Context into Patches", IJCAI 2025.

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
    """Resize each of the nine cells on its own and join them.

    Parameters
    ----------
    patch
        (N, C, G, G) float, the window and its surroundings.
    local
        L, the side in pixels of the window at the centre, and of the result.
    inner
        D, the side in pixels to which the window is squeezed, 1 to L.
    antialias
        Antialias the bilinear resizing.

    Returns
    -------
    Tensor
        (N, C, L, L). Resizing is bilinear with align_corners False. A cell does not
        depend on its neighbours.
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
