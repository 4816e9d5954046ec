"""GLNet's feature pyramids with feature-map sharing between branches (section 3.2.2).

Chen et al., CVPR 2019. Convolutions have a bias, no normalisation and no activation;
interpolation is bilinear. Keys are the authors'. Names of maps in the pyramid:

=====  =============================================  ========================
c      the encoder's, c2 to c5                        a quarter to a 32nd
ps0    after the top-down path: p5, p4, p3, p2        a 32nd to a quarter
ps1    after the first smoothing                      as above
ps2    after the second, half as wide                 as above
ps3    all of ps2 enlarged to p2 and joined           a quarter
=====  =============================================  ========================
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Maps:
    """Feature maps that one branch shares with the other: four of each kind."""

    c: tuple[Tensor, ...]
    ps0: tuple[Tensor, ...]
    ps1: tuple[Tensor, ...]
    ps2: tuple[Tensor, ...]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Maps":
        return Maps(
            *(
                tuple(change(m) for m in maps)
                for maps in (self.c, self.ps0, self.ps1, self.ps2)
            )
        )

    def frame(self, n: int) -> "Maps":
        """Return the maps of frame ``n`` of the batch, (1, C, h, w) each."""
        return self.each(lambda maps: maps[n : n + 1])

    def flat(self) -> list[Tensor]:
        return [*self.c, *self.ps0, *self.ps1, *self.ps2]

    @classmethod
    def unflat(cls, maps: Sequence[Tensor]) -> "Maps":
        return cls(*(tuple(maps[i : i + 4]) for i in range(0, 16, 4)))


@dataclass(frozen=True, slots=True)
class Seen:
    """Results of a pyramid: its maps, ``ps3``, and the logits at a quarter."""

    maps: Maps
    ps3: Tensor
    logits: Tensor


class SharingPyramid(nn.Module):
    """Feature pyramid network with one or two sets of weights and one classifier.

    Parameters
    ----------
    inputs
        Channels of c2, c3, c4 and c5.
    width
        Channels of ps0 and ps1; the second smoothing halves them.
    classes
        Channels of the logits.
    alone
        If True, there are weights for the branch's own maps alone.
    guest
        Suffix of the weights that also take the other branch's maps; ``None``: there
        are no such weights.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        width: int,
        classes: int,
        alone: bool,
        guest: str | None,
    ) -> None:
        super().__init__()
        if alone:
            self._add(inputs, width, 1, "")
        if guest is not None:
            self._add(inputs, width, 2, guest)
            self.smooth = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self._guest = guest
        self.classify = nn.Conv2d(2 * width, classes, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _add(self, inputs: Sequence[int], width: int, times: int, end: str) -> None:
        names = ("latlayer3", "latlayer2", "latlayer1", "toplayer")
        for name, channels in zip(names, inputs, strict=True):
            self.add_module(name + end, nn.Conv2d(times * channels, width, 1))
        for level in range(1, 5):
            for step, after in ((1, width), (2, width // 2)):
                layer = nn.Conv2d(times * width, after, 3, padding=1)
                self.add_module(f"smooth{level}_{step}{end}", layer)

    def forward(self, c: Sequence[Tensor], guest: Maps | None = None) -> Seen:
        """Return the results for the encoder's maps and the other branch's maps."""
        end = "" if guest is None or self._guest is None else self._guest

        def layer(name: str, x: Tensor) -> Tensor:
            out: Tensor = self.get_submodule(name + end)(x)
            return out

        def joined(own: Sequence[Tensor], kind: str) -> list[Tensor]:
            if guest is None:
                return list(own)
            others = getattr(guest, kind)
            return [
                torch.cat([a, resized(b, a)], dim=1)
                for a, b in zip(own, others, strict=True)
            ]

        c2, c3, c4, c5 = joined(c, "c")
        p5 = layer("toplayer", c5)
        p4 = resized(p5, c4) + layer("latlayer1", c4)
        p3 = resized(p4, c3) + layer("latlayer2", c3)
        p2 = resized(p3, c2) + layer("latlayer3", c2)
        ps0 = (p5, p4, p3, p2)
        ps1 = self._smoothed(joined(ps0, "ps0"), 1, layer)
        ps2 = self._smoothed(joined(ps1, "ps1"), 2, layer)
        last = joined(ps2, "ps2")
        ps3 = torch.cat([resized(m, p2) for m in last], dim=1)
        if guest is not None:
            ps3 = self.smooth(ps3)
        return Seen(Maps(tuple(c), ps0, ps1, ps2), ps3, self.classify(ps3))

    @staticmethod
    def _smoothed(
        maps: Sequence[Tensor], step: int, layer: Callable[[str, Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        return tuple(
            layer(f"smooth{level}_{step}", m) for level, m in enumerate(maps, 1)
        )


class GlobalBranch(nn.Module):
    """Global branch on its own, with the authors' parameter names.

    Parameters
    ----------
    encoder
        Encoder that returns c2, c3, c4 and c5.
    inputs
        Channels of these maps.
    width
        Channels of ps0 and ps1.
    classes
        Channels of the logits.
    """

    def __init__(
        self, encoder: nn.Module, inputs: Sequence[int], width: int, classes: int
    ) -> None:
        super().__init__()
        self.resnet_global = encoder
        self.fpn_global = SharingPyramid(inputs, width, classes, True, None)

    def forward(self, overviews: Tensor) -> Seen:
        seen: Seen = self.fpn_global(self.resnet_global(overviews))
        return seen


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``x`` bilinearly to the height and width of ``like``."""
    size = like.shape[-2:]
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
