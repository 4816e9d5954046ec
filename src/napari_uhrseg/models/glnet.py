"""GLNet: a frame's overview and each of its patches, sharing features both ways.

Chen, Jiang, Wang, Cui, Qian: "Collaborative Global-Local Networks for Memory-Efficient
Segmentation of Ultra-High Resolution Images", CVPR 2019. Where paper and published
code (MIT) differ, this follows the code, as its checkpoints and logits are the
reference; such places are marked [code].

::

    frame --- resized to 508 x 508 ---> global branch ------+------> logits of mode 1
      |                                  | crops of its maps |  ^ merged maps
      +------ patches of 508 ---> local branch --------------|--+
                                         | ps3               v ps3 of the global branch
                                         +-----> ensemble convolution -> logits

Mode 1 is the overview alone; mode 2 gives the overview's maps to the patches; mode 3,
the published method, also gives the patches' maps back, put together to the overview's
size. In mode 3 the maps that patches get are those of the global branch as the first
stage left it, which is kept as ``fixed``.

Published (DeepGlobe test, six classes): mIoU 71.6 with 1865 MB, 70.9 in mode 2 with
1395 MB; 0.17 images a second as ISDNet's authors measured it. Inria 71.2 with 2663 MB.
ISIC 75.2, coarse to fine. Users get 63.9, 69.2 and 69.9 on DeepGlobe's validation set
with the published weights in modes 1, 2 and 3.

Names of weights are the published files': without ``module.`` those of local2global,
and under ``fixed.`` the same names of the first stage's file, without ``_ext``. Every
mode has all of them, so that one class reads every file.

What it needs: values of 0 to 1 without mean and deviation [code]; an image up to the
frame. Memory on the device is that of ``sub_batch`` patches, the overview's maps and
the frame's logits; ``keep`` bytes of the patches' last maps wait in the host's memory,
the others are computed again.

[code] 508 pixels for both (the paper: 500), overlaps of at least 50, evenly spread.
[code] Focal loss with gamma 3 (the paper: 6), mean over pixels, at a quarter of the
resolution; labels by the nearest pixel.
[code] Feature regularisation is 0.15 of the mean squared difference, only in the
second stage (the paper: the Euclidean norm).
[code] Rates 5e-5, 2e-5, 5e-5; 120, 50 and 120 epochs of DeepGlobe's 454 images by six.
[choice] AdamW for Adam with the same weight decay, 5e-4.
[choice] Ignored labels are left out of the loss; the published one stops at them.
[choice] A step learns from ``patches_per_step`` random patches a frame, where the code
goes through all of them: the expectation is the same and a step fits into memory. All
patches are still seen, without gradients, for the maps that the third stage merges.
[choice] Overlapping logits are averaged; the code sums them, which labels alike.
[choice] A side shorter than a patch has one patch of that length; the published code
divides by zero. A crop of a map has at least one pixel, and stays inside.
[choice] The overview is made of the frame by an antialiased bilinear filter, Pillow's
but for its rounding to whole grey values.

Coarse to fine (section 3.3; the authors never released it): the global branch finds
the foreground, the method proper runs on its bounding box as if that were the image,
the rest is background.
[choice] The box is grown about its centre until foreground and background are about
equal (footnote 1), by a margin of a sixteenth of the frame, and to a patch at least:
what a small overview missed at the object's border must lie inside.
[choice] ``background`` says which class (0) is not foreground. Outside of the box its
probability is one for all practical purposes. Trained as otherwise.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.generic import weights_missing
from napari_uhrseg.models.blocks.losses import focal
from napari_uhrseg.models.blocks.patches import Merged, Patches, Place
from napari_uhrseg.models.blocks.sharing import Maps, Seen, SharingPyramid, resized
from napari_uhrseg.types import InputSpec, Recipe, Roi, Stage, View

KEEP = 256 * 2**20  # bytes of the patches' last maps kept between the two passes
CERTAIN = 20.0  # logit of what lies outside of the foreground's box
GLOBAL = Stage(120 * 454 // 6, 5e-5, ("resnet_global.", "fpn_global."), name="global")
LOCAL = Stage(
    50 * 454 // 6,
    2e-5,
    ("resnet_local.", "fpn_local.", "ensemble_conv."),
    name="local",
)
BOTH = Stage(
    120 * 454 // 6,
    5e-5,
    ("resnet_global.", "fpn_global.", "ensemble_conv."),
    name="both",
)


class GLNet(Segmenter):
    """Labels a frame by its overview and its patches.

    Parameters
    ----------
    classes, channels
        Outputs and inputs of the network.
    encoder
        A name of timm; the paper's is ResNet-50.
    width
        Channels of the pyramids; the paper has 256.
    patch, overview
        Sides in pixels of the patches and of the overview.
    frame
        Side of the largest frame.
    window
        Side of the crop that is learnt from in a frame's place; ``None``: the frame.
        Another than the frame's would show the overview another scale.
    mode
        1, 2 or 3: how far the branches share.
    coarse_to_fine, background
        See the module's docstring.
    gamma
        Of the focal loss.
    sub_batch
        Patches run at once.
    patches_per_step
        Patches of each frame that a training step learns from.
    keep
        Bytes of host memory for maps between the passes of mode 3.
    pretrained
        Start from ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        Mode or sizes cannot be, or the encoder or its weights cannot be had.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        encoder: str = "resnet50",
        width: int = 256,
        patch: int = 508,
        overview: int = 508,
        frame: int = 2448,
        window: int | None = None,
        mode: int = 3,
        coarse_to_fine: bool = False,
        background: int = 0,
        gamma: float = 3,
        sub_batch: int = 6,
        patches_per_step: int = 2,
        keep: int = KEEP,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if mode not in (1, 2, 3) or min(patch, overview) < 32 or sub_batch < 1:
            raise CheckpointError(
                f"GLNet cannot have mode {mode}, patches of {patch}, an overview of "
                f"{overview} and {sub_batch} patches at once.",
                "Modes are 1, 2 and 3; patch and overview take 32 pixels and more.",
            )
        self.spec = InputSpec(
            views={"local": View("frame")},
            window=window or frame,
            frame=frame,
            minimum=32,
            channels=channels,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
        )
        stages = (GLOBAL, LOCAL, BOTH)[:mode]
        self.recipe = Recipe(
            stages=stages, batch_size=6, optimizer="adamw", schedule="poly"
        )
        self.mode, self.stage = mode, stages[-1].name
        self.patch, self.overview, self.gamma = patch, overview, gamma
        self.coarse_to_fine, self.background = coarse_to_fine, background
        self.sub_batch, self.keep = sub_batch, keep
        self.patches_per_step = patches_per_step
        self.resnet_global = _encoder(encoder, channels, pretrained)
        self.resnet_local = _encoder(encoder, channels, pretrained)
        inputs: list[int] = _channels(self.resnet_global)
        self.fpn_global = SharingPyramid(inputs, width, classes, True, "_ext")
        self.fpn_local = SharingPyramid(inputs, width, classes, False, "")
        self.ensemble_conv = nn.Conv2d(4 * width, classes, 3, padding=1)
        nn.init.normal_(self.ensemble_conv.weight, 0, 0.01)
        self.fixed = None
        if mode == 3:
            self.fixed = _Fixed(_encoder(encoder, channels, False), inputs, width,
                                classes)  # fmt: skip
            self.fixed.requires_grad_(False)

    def forward(self, batch: Batch) -> Outputs:
        frames = batch.views["local"]
        if self.training:
            return self._learn(frames)
        if self.coarse_to_fine:
            return {"logits": torch.cat([self._refined(f[None]) for f in frames])}
        return {"logits": self.label(frames, self.look(frames))}

    def look(self, frames: Tensor) -> Tensor:
        """The overviews of frames, (N, C, overview, overview)."""
        size = (self.overview, self.overview)
        return F.interpolate(
            frames.float(), size=size, mode="bilinear", antialias=True
        )  # align_corners=False

    def label(self, frames: Tensor, overviews: Tensor) -> Tensor:
        """Logits (N, K, h, w) of frames (N, C, h, w) with their overviews."""
        height, width = frames.shape[-2:]
        first = self._globally(overviews)
        if self.mode == 1:
            return F.interpolate(first.logits, size=(height, width))
        patches = Patches(height, width, self.patch)
        found = []
        for n in range(len(frames)):
            one = slice(n, n + 1)
            frame, given, last = frames[one], first.maps.frame(n), first.ps3[one]
            kept: list[Tensor] = []
            if self.mode == 3:
                merged, kept = self._merged(frame, given, patches)
                last = self.fpn_global(self.resnet_global(overviews[one]), merged).ps3
            found.append(self._labelled(frame, given, last, patches, kept))
        return torch.stack(found)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The stage's terms: focal losses, and the features' regularisation."""
        if batch.target is None:
            raise ValueError("a loss needs a target")
        target = batch.target
        if "logits" in outputs:  # in eval mode
            return {"loss": focal(outputs["logits"], target, self.gamma)}
        terms = {}
        if "global" in outputs:
            terms["global"] = focal(outputs["global"], target, self.gamma)
        if "places" in outputs:
            patches = Patches(target.shape[-2], target.shape[-1], self.patch)
            places = [(int(n), int(y), int(x)) for n, y, x in outputs["places"]]
            cut = patches.cut(target, places)
            for name in ("local", "ensemble"):
                if name in outputs:
                    terms[name] = focal(outputs[name], cut, self.gamma)
        if "regularisation" in outputs:
            terms["regularisation"] = 0.15 * outputs["regularisation"]
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def begin_stage(self, stage: Stage, first: bool) -> None:
        """``"both"`` starts with what ``"global"`` learned as the fixed branch."""
        self.stage = stage.name
        if first and stage.name == "both" and self.fixed is not None:
            own = self.state_dict()
            taken = {k: own[k] for k in self.fixed.state_dict()}
            self.fixed.load_state_dict(taken)
        self.train(self.training)

    def train(self, mode: bool = True) -> "GLNet":
        """Branches that a stage does not train keep their running statistics."""
        super().train(mode)
        trained = {s.name: s.trains for s in (GLOBAL, LOCAL, BOTH)}[self.stage]
        for name, part in self.named_children():
            if not f"{name}.".startswith(trained):
                part.eval()
        return self

    # -- both branches ------------------------------------------------------

    def _globally(self, overviews: Tensor) -> Seen:
        """The global branch alone; in mode 3 as the first stage left it."""
        if self.fixed is not None and self.stage == "both":
            with torch.no_grad():
                kept: Seen = self.fixed(overviews)
            return kept
        found: Seen = self.fpn_global(self.resnet_global(overviews))
        return found

    def _locally(
        self, frames: Tensor, given: Maps, patches: Patches, places: Sequence[Place]
    ) -> Seen:
        """The local branch on some patches, with their crops of the global maps."""
        crops = given.each(lambda m: patches.crop(m, places))
        seen: Seen = self.fpn_local(
            self.resnet_local(patches.cut(frames, places)), crops
        )
        return seen

    def _together(
        self, local: Tensor, given: Tensor, patches: Patches, places: Sequence[Place]
    ) -> Tensor:
        """The ensemble's logits of patches, from the last maps of both branches."""
        crop = resized(patches.crop(given, places), local)
        logits: Tensor = self.ensemble_conv(torch.cat([local, crop], dim=1))
        return logits

    # -- running ------------------------------------------------------------

    def _groups(self, patches: Patches) -> Iterator[list[Place]]:
        places = patches.places(0)
        for start in range(0, len(places), self.sub_batch):
            yield places[start : start + self.sub_batch]

    def _merged(
        self, frame: Tensor, given: Maps, patches: Patches
    ) -> tuple[Maps, list[Tensor]]:
        """The patches' maps as the overview's, and the last maps that may be kept."""
        merged: list[Merged] = []
        kept: list[Tensor] = []
        room = self.keep
        for places in self._groups(patches):
            seen = self._locally(frame, given, patches, places)
            flat = seen.maps.flat()
            merged = merged or [
                Merged(patches, like, maps.shape[1])
                for like, maps in zip(given.flat(), flat, strict=True)
            ]
            for sums, maps in zip(merged, flat, strict=True):
                sums.add(maps, places)
            room -= seen.ps3.nbytes
            if room >= 0:  # once there is no room, there is none for later ones
                kept.append(seen.ps3 if frame.is_meta else seen.ps3.cpu())
        return Maps.unflat([sums.finish()[None] for sums in merged]), kept

    def _labelled(
        self,
        frame: Tensor,
        given: Maps,
        last: Tensor,
        patches: Patches,
        kept: Sequence[Tensor],
    ) -> Tensor:
        """The frame's logits (K, h, w), the mean of those of its patches."""
        height, width = frame.shape[-2:]
        total: Tensor | None = None
        for number, places in enumerate(self._groups(patches)):
            if number < len(kept):
                local = kept[number].to(frame.device)
            else:
                local = self._locally(frame, given, patches, places).ps3
            logits = self._together(local, last, patches, places).float()
            if total is None:
                total = logits.new_zeros((logits.shape[1], height, width))
            tall, wide = patches.size
            large = F.interpolate(logits, size=(tall, wide))
            for (_, y, x), one in zip(places, large, strict=True):
                total[:, y : y + tall, x : x + wide] += one
        assert total is not None
        return total / patches.counts((height, width)).to(total)

    def _refined(self, frame: Tensor) -> Tensor:
        """Coarse to fine: (1, K, h, w) of one frame."""
        coarse = self._globally(self.look(frame)).logits.float()
        height, width = frame.shape[-2:]
        if frame.is_meta:
            box: Roi | None = Roi(0, 0, height, width)
        else:
            found = (coarse[0].argmax(0) != self.background).cpu()
            box = foreground_box(found, (height, width), self.patch)
        logits = coarse.new_zeros((1, coarse.shape[1], height, width))
        logits[:, self.background] = CERTAIN
        if box is not None:
            part = frame[..., box.slices[0], box.slices[1]]
            logits[..., box.slices[0], box.slices[1]] = self.label(
                part, self.look(part)
            ).to(logits.dtype)
        return logits

    # -- learning -----------------------------------------------------------

    def _learn(self, frames: Tensor) -> Outputs:
        overviews = self.look(frames)
        if self.stage == "global":
            seen: Seen = self.fpn_global(self.resnet_global(overviews))
            return {"global": seen.logits}
        patches = Patches(frames.shape[-2], frames.shape[-1], self.patch)
        places = [
            place
            for n in range(len(frames))
            for place in self._drawn(patches.places(n))
        ]
        chosen = torch.tensor(places)
        if self.stage == "local":
            with torch.no_grad():
                seen = self.fpn_global(self.resnet_global(overviews))
            local = self._locally(frames, seen.maps, patches, places)
            crop = resized(patches.crop(seen.ps3, places), local.ps3)
            return {
                "local": local.logits,
                "ensemble": self._together(local.ps3, seen.ps3, patches, places),
                "regularisation": F.mse_loss(local.ps3.float(), crop.float()),
                "places": chosen,
            }
        with torch.no_grad():
            given = self._globally(overviews).maps
            each = [
                self._merged(frames[n : n + 1], given.frame(n), patches)[0].flat()
                for n in range(len(frames))
            ]
            merged = Maps.unflat([torch.cat(maps) for maps in zip(*each, strict=True)])
            local_ps3 = self._locally(frames, given, patches, places).ps3
        seen = self.fpn_global(self.resnet_global(overviews), merged)
        return {
            "global": seen.logits,
            "ensemble": self._together(local_ps3, seen.ps3, patches, places),
            "places": chosen,
        }

    def _drawn(self, places: list[Place]) -> list[Place]:
        """Some patches, by torch's random numbers."""
        order = torch.randperm(len(places))[: self.patches_per_step]
        return [places[i] for i in order.tolist()]


class _Fixed(nn.Module):
    """The global branch of the first stage, under the authors' names."""

    def __init__(
        self, encoder: nn.Module, inputs: Sequence[int], width: int, classes: int
    ) -> None:
        super().__init__()
        self.resnet_global = encoder
        self.fpn_global = SharingPyramid(inputs, width, classes, True, None)

    def forward(self, overviews: Tensor) -> Seen:
        seen: Seen = self.fpn_global(self.resnet_global(overviews))
        return seen


def foreground_box(found: Tensor, size: tuple[int, int], least: int) -> Roi | None:
    """The relaxed bounding box of a coarse foreground, in a frame's pixels.

    Parameters
    ----------
    found
        (h, w) bool, of the whole frame.
    size
        The frame's height and width.
    least
        Sides are no shorter, where the frame allows.

    Returns
    -------
    ``None`` where there is no foreground.
    """
    rows, columns = (torch.nonzero(found.any(axis)).flatten() for axis in (1, 0))
    if not len(rows):
        return None
    # sides that hold as much background as foreground, if the box is tighter
    box = float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
    grown = max(1.0, math.sqrt(2 * float(found.sum()) / box))
    sides = []
    for at, cells, length in zip((rows, columns), found.shape, size, strict=True):
        cell = length / cells
        first, end = float(at[0]) * cell, float(at[-1] + 1) * cell
        wanted = max(least, (end - first) * grown, end - first + length / 8)
        side = min(length, math.ceil(wanted))
        start = round((first + end - side) / 2)
        sides.append((min(max(0, start), length - side), side))
    (y, tall), (x, wide) = sides
    return Roi(y, x, tall, wide)


def _encoder(name: str, channels: int, pretrained: bool) -> nn.Module:
    """Maps at a quarter, an eighth, a 16th and a 32nd of the resolution."""
    name = name.removeprefix("tu-")
    arguments = {"features_only": True, "out_indices": (1, 2, 3, 4)}
    try:
        net: nn.Module = timm.create_model(name, in_chans=channels, **arguments)
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise CheckpointError(
            f"The encoder {name!r} cannot be built: {error}",
            "Choose a convolutional model of timm with five scales.",
        ) from error
    if pretrained:
        try:
            net = timm.create_model(
                name, in_chans=channels, pretrained=True, **arguments
            )
        except (OSError, RuntimeError, KeyError) as error:  # hub errors are OSErrors
            raise weights_missing(name, error) from error
    return net


def _channels(encoder: Any) -> list[int]:
    """Of its maps, from fine to coarse."""
    return list(encoder.feature_info.channels())
