"""GLNet: an overview of a frame and its patches that share their feature maps.

Chen, Jiang, Wang, Cui, Qian: "Collaborative Global-Local Networks for Memory-Efficient
Segmentation of Ultra-High Resolution Images", CVPR 2019. Where paper and published
code (MIT) differ, this module follows the code, whose checkpoints and logits are the
reference; such points are marked [code], own decisions [choice].

::

    frame --- resized to 508 x 508 ---> global branch ------+------> logits of mode 1
      |                                  | crops of its maps |  ^ merged maps
      +------ patches of 508 ---> local branch --------------|--+
                                         | ps3               v ps3 of the global branch
                                         +-----> ensemble convolution -> logits

Mode 1 uses the overview alone. Mode 2 gives the overview's maps to the patches. Mode 3,
the published method, also merges the patches' maps to the overview's size and gives
them back. Its patches get the maps of the global branch after the first stage
(``fixed``).

Published (DeepGlobe test, six classes): mIoU 71.6 with 1865 MB, 70.9 in mode 2 with
1395 MB; 0.17 images per second as measured by ISDNet's authors. Inria 71.2 with
2663 MB. ISIC 75.2, coarse to fine. Users get 63.9, 69.2 and 69.9 on DeepGlobe's
validation set with the published weights in modes 1, 2 and 3.

Weights have the names of the published local2global file without ``module.``; those
under ``fixed.`` have the names of the first stage's file without ``_ext``. Every mode
has all of them. Values are 0 to 1 without mean and deviation [code]. Device memory
contains ``sub_batch`` patches, the overview's maps and the frame's logits.

[code] Both sides are 508 pixels (paper: 500), overlaps at least 50, evenly spaced.
[code] The overview is Pillow's, which rounds 8-bit images to grey levels.
[code] Focal loss with gamma 3 (paper: 6), mean over pixels, at a quarter of the
resolution, with nearest-pixel labels. Feature regularisation: 0.15 of the mean squared
difference, only in the second stage (paper: Euclidean norm).
[code] 120, 50 and 120 epochs of DeepGlobe's 454 images by six.
[choice] AdamW for Adam with the same weight decay, 5e-4. Ignored labels are left out.
[code] A step learns from all patches, group by group. In the third stage, the losses
of all groups are added to that of the global branch: 36 to 1 for 2448 pixels.
[choice] ``patches_per_step`` takes random patches instead, with the same weights. A
step then learns from fewer pixels at the same rate, so it needs more steps.
[choice] The ensemble convolution is the sum of one for each branch. The local half is
computed in the first pass: K channels of a patch are stored, not 512.
[choice] Overlapping logits are averaged; the code sums them, with the same labels.
[choice] A side shorter than a patch has one patch of that length; a crop of a map has
at least one pixel.
Coarse to fine (section 3.3): see ``blocks.coarse_to_fine``.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.blocks.coarse_to_fine import (
    background_logits,
    common_corners,
    cut_corners,
    foreground_box,
)
from napari_uhrseg.models.blocks.glnet.fpn import (
    GlobalBranch,
    Maps,
    Seen,
    SharingPyramid,
    resized,
)
from napari_uhrseg.models.blocks.glnet.patches import Merged, Patches, Place, overview
from napari_uhrseg.models.blocks.glnet.training import (
    STAGES,
    choose_places,
    ensemble_weight,
    in_groups,
)
from napari_uhrseg.models.blocks.losses import focal
from napari_uhrseg.models.blocks.timm_features import make_encoder
from napari_uhrseg.types import InputSpec, Recipe, Roi, Stage, View


class GLNet(Segmenter):
    """Network with a global and a local branch (Chen et al., CVPR 2019, section 3.2).

    Parameters
    ----------
    classes, channels
        Channels of the logits and of the input, at least 1.
    encoder
        Name of a timm encoder; the paper has ResNet-50.
    width
        Channels of the feature pyramids; the paper has 256.
    patch, overview
        Sides of the patches and of the overview in pixels, at least 32.
    frame
        Side of the largest frame in pixels.
    window
        Side of a training crop in pixels; ``None``: ``frame``. Another side changes the
        scale of the overview.
    mode
        Direction of sharing (section 3.2.2): 1 none, 2 global to local, 3 both.
    coarse_to_fine, background
        See :mod:`~napari_uhrseg.models.blocks.coarse_to_fine` (section 3.3).
    gamma
        Focusing parameter of the focal loss (section 4.1), at least 0.
    sub_batch
        Patches of a forward pass, at least 1.
    patches_per_step
        Random patches of each frame in a training step; ``None``: all, as in the code.
    pretrained
        Load ImageNet weights of the encoder.

    Raises
    ------
    CheckpointError
        If mode or sizes are invalid, or the encoder or its weights are not available.
    """

    encoder_prefixes: ClassVar[tuple[str, ...]] = (
        "resnet_global.", "resnet_local.", "fixed."
    )  # fmt: skip
    pretrained_modules: ClassVar[tuple[str, ...]] = ("resnet_global", "resnet_local")

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
        patches_per_step: int | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if mode not in (1, 2, 3) or min(patch, overview) < 32 or sub_batch < 1:
            raise CheckpointError(
                f"GLNet cannot have mode {mode}, patches of {patch}, an overview of "
                f"{overview} and {sub_batch} patches at once.",
                "Modes are 1, 2 and 3; patch and overview take 32 pixels and more.",
            )
        if coarse_to_fine and not 0 <= background < classes:
            raise CheckpointError(
                f"GLNet cannot have background {background} of {classes} classes.",
                "Take the background's number, counted from 0.",
            )
        self.spec = InputSpec(
            views={"local": View("frame")},
            window=window or frame,
            frame=frame,
            min_side=32,
            channels=channels,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
        )
        stages = STAGES[:mode]
        turns = ("rotation",)  # as in the code
        self.recipe = Recipe(stages, 6, "adamw", schedule="poly", augmentations=turns)
        self.mode, self.stage = mode, stages[-1].name
        self.patch, self.overview, self.gamma = patch, overview, gamma
        self.coarse_to_fine, self.background = coarse_to_fine, background
        self.sub_batch, self.patches_per_step = sub_batch, patches_per_step
        self.resnet_global, inputs = make_encoder(encoder, channels, pretrained, False)
        self.resnet_local, _ = make_encoder(encoder, channels, pretrained, False)
        self.fpn_global = SharingPyramid(inputs, width, classes, True, "_ext")
        self.fpn_local = SharingPyramid(inputs, width, classes, False, "")
        self.ensemble_conv = nn.Conv2d(4 * width, classes, 3, padding=1)
        nn.init.normal_(self.ensemble_conv.weight, 0, 0.01)
        self.fixed = None
        if mode == 3:
            first, _ = make_encoder(encoder, channels, dense=False)
            self.fixed = GlobalBranch(first, inputs, width, classes)
            self.fixed.requires_grad_(False)

    def forward(self, batch: Batch) -> Outputs:
        frames = batch.views["local"]
        if self.training:
            return self._learn(frames)
        if self.coarse_to_fine:
            return {"logits": torch.cat([self._refined(f[None]) for f in frames])}
        return {"logits": self.label(frames, self.look(frames))}

    def look(self, frames: Tensor) -> Tensor:
        """Return the overviews of frames, (N, C, overview, overview)."""
        return overview(frames, self.overview)

    def label(self, frames: Tensor, overviews: Tensor) -> Tensor:
        """Return logits (N, K, h, w) of frames (N, C, h, w) and their overviews."""
        height, width = frames.shape[-2:]
        first = self._globally(overviews)
        if self.mode == 1:
            return F.interpolate(first.logits, size=(height, width))
        patches = Patches(height, width, self.patch)
        found = []
        for n in range(len(frames)):
            one = slice(n, n + 1)
            maps, halves = self._merged(frames[one], first.maps.frame(n), patches)
            last = first.ps3[one]
            if self.mode == 3:
                own, merged = self.resnet_global(overviews[one]), Maps.unflat(maps)
                last = self.fpn_global(own, merged).ps3
            found.append(self._labelled(last, patches, halves))
        return torch.stack(found)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the stage's terms: focal losses, and regularisation (3.2.3)."""
        if batch.target is None:
            raise ValueError("a loss needs a target")
        target = batch.target
        if "boxes" in outputs:
            target = cut_corners(target, outputs["boxes"])
        if "logits" in outputs:  # in eval mode
            return {"loss": focal(outputs["logits"], target, self.gamma)}
        terms, weights = {}, {}
        if "global" in outputs:
            terms["global"] = focal(outputs["global"], target, self.gamma)
        if "places" in outputs:
            patches = Patches(target.shape[-2], target.shape[-1], self.patch)
            places = [(int(n), int(y), int(x)) for n, y, x in outputs["places"]]
            cut = patches.cut(target, places)
            for name in ("local", "ensemble"):
                if name in outputs:
                    terms[name] = focal(outputs[name], cut, self.gamma)
            if "global" in outputs:
                weights["ensemble"] = ensemble_weight(patches)
        if "regularisation" in outputs:
            terms["regularisation"] = 0.15 * outputs["regularisation"]
        total = torch.stack([weights.get(k, 1) * v for k, v in terms.items()]).sum()
        return {"loss": total, **terms}

    def begin_stage(self, stage: Stage, first: bool) -> None:
        """Begin a stage; ``"both"`` copies the global branch to ``fixed``."""
        self.stage = stage.name
        if first and stage.name == "both" and self.fixed is not None:
            own = self.state_dict()
            taken = {k: own[k] for k in self.fixed.state_dict()}
            self.fixed.load_state_dict(taken)
        self.train(self.training)

    def train(self, mode: bool = True) -> "GLNet":
        """Set the mode; branches that are not trained keep running statistics."""
        super().train(mode)
        trained = {s.name: s.trainable for s in STAGES}[self.stage]
        for name, part in self.named_children():
            if not f"{name}.".startswith(trained):
                part.eval()
        return self

    def _globally(self, overviews: Tensor) -> Seen:
        """Run the global branch alone; in mode 3 with first-stage weights."""
        if self.fixed is not None and self.stage == "both":
            with torch.no_grad():
                kept: Seen = self.fixed(overviews)
            return kept
        found: Seen = self.fpn_global(self.resnet_global(overviews))
        return found

    def _locally(
        self, frames: Tensor, given: Maps, patches: Patches, places: Sequence[Place]
    ) -> Seen:
        """Run the local branch on patches, with their crops of the global maps."""
        crops = given.each(lambda m: patches.crop(m, places))
        seen: Seen = self.fpn_local(
            self.resnet_local(patches.cut(frames, places)), crops
        )
        return seen

    def _together(
        self, local: Tensor, given: Tensor, patches: Patches, places: Sequence[Place]
    ) -> Tensor:
        """Return the ensemble's logits, from the last maps of both branches."""
        crop = resized(patches.crop(given, places), local)
        logits: Tensor = self.ensemble_conv(torch.cat([local, crop], dim=1))
        return logits

    def _merged(
        self, frame: Tensor, given: Maps, patches: Patches
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the first pass over a frame's patches.

        Return the merged maps at the overview's size, flat (mode 3 only), and for each
        group the local half of the ensemble, (P, K, h, w) float32.
        """
        merged = [Merged(patches, like) for like in given.flat() if self.mode == 3]
        halves = []
        for places in patches.groups(self.sub_batch):
            seen = self._locally(frame, given, patches, places)
            for sums, maps in zip(merged, seen.maps.flat(), strict=False):
                sums.add(maps, places)
            halves.append(self._half(seen.ps3, 0))
        return [sums.finish()[None] for sums in merged], halves

    def _half(self, last: Tensor, side: int) -> Tensor:
        """Return one branch's part of the ensemble: 0 local, 1 global."""
        weight = self.ensemble_conv.weight.chunk(2, dim=1)[side]
        bias = self.ensemble_conv.bias if side else None
        return F.conv2d(last, weight, bias, padding=1).float()

    def _labelled(
        self, last: Tensor, patches: Patches, halves: Sequence[Tensor]
    ) -> Tensor:
        """Run the second pass: return mean logits of the patches, (K, h, w)."""
        size, (tall, wide) = (patches.height, patches.width), patches.size
        total = halves[0].new_zeros((halves[0].shape[1], *size))
        for places, half in zip(patches.groups(self.sub_batch), halves, strict=True):
            crop = resized(patches.crop(last, places), half)
            large = F.interpolate(half + self._half(crop, 1), size=(tall, wide))
            for (_, y, x), one in zip(places, large, strict=True):
                total[:, y : y + tall, x : x + wide] += one
        return total / patches.counts(size).to(total)

    def _refined(self, frame: Tensor) -> Tensor:
        """Return coarse-to-fine logits (1, K, h, w) of one frame."""
        box = self._box(frame)
        classes = self.ensemble_conv.out_channels
        logits = background_logits(frame, classes, self.background)
        if box is not None:
            part = frame[(..., *box.slices)]
            found = self.label(part, self.look(part))
            logits[(..., *box.slices)] = found.to(logits.dtype)
        return logits

    def _box(self, frame: Tensor) -> Roi | None:
        """Return the foreground's box in a frame (1, C, h, w), if there is any."""
        height, width = frame.shape[-2:]
        if frame.is_meta:  # the largest possible box
            return Roi(0, 0, height, width)
        coarse = self._globally(self.look(frame)).logits
        found = (coarse[0].argmax(0) != self.background).cpu()
        return foreground_box(found, (height, width), self.spec.min_side)

    def _learn(self, frames: Tensor) -> Outputs:
        """Return the outputs for the stage's loss, from some patches per frame."""
        outputs: Outputs = {}
        if self.coarse_to_fine and self.stage != "global":
            frames, outputs["boxes"] = self._cut_boxes(frames)
        overviews = self.look(frames)
        if self.stage == "global":
            return {"global": self.fpn_global(self.resnet_global(overviews)).logits}
        patches = Patches(frames.shape[-2], frames.shape[-1], self.patch)
        chosen = choose_places(patches, len(frames), self.patches_per_step)
        outputs["places"] = torch.tensor(chosen)
        learn = self._learn_local if self.stage == "local" else self._learn_both
        return outputs | learn(frames, overviews, patches, chosen)

    def _learn_local(
        self, frames: Tensor, overviews: Tensor, patches: Patches, places: list[Place]
    ) -> Outputs:
        with torch.no_grad():
            seen: Seen = self._globally(overviews)

        def learn(group: list[Place]) -> tuple[Tensor, ...]:
            local = self._locally(frames, seen.maps, patches, group)
            crop = resized(patches.crop(seen.ps3, group), local.ps3)
            together = self._together(local.ps3, seen.ps3, patches, group)
            return local.logits, together, F.mse_loss(local.ps3.float(), crop.float())

        found = in_groups(learn, places, self.sub_batch, self)
        own, together, differences = zip(*found, strict=True)
        return {
            "local": torch.cat(own),
            "ensemble": torch.cat(together),
            "regularisation": torch.stack(differences).mean(),
        }

    def _learn_both(
        self, frames: Tensor, overviews: Tensor, patches: Patches, places: list[Place]
    ) -> Outputs:
        with torch.no_grad():
            given, each = self._globally(overviews).maps, []
            for n in range(len(frames)):
                maps, _ = self._merged(frames[n : n + 1], given.frame(n), patches)
                each.append(maps)
            merged = Maps.unflat([torch.cat(maps) for maps in zip(*each, strict=True)])
        seen: Seen = self.fpn_global(self.resnet_global(overviews), merged)

        def learn(group: list[Place]) -> tuple[Tensor]:
            with torch.no_grad():
                local = self._locally(frames, given, patches, group).ps3
            return (self._together(local, seen.ps3, patches, group),)

        found = in_groups(learn, places, self.sub_batch, self)
        together = torch.cat([group[0] for group in found])
        return {"global": seen.logits, "ensemble": together}

    def _cut_boxes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames' foregrounds, all of one size, and (N, 4) corners."""
        with torch.no_grad():
            boxes = [self._box(frame[None]) for frame in frames]
        corners = common_corners(boxes, (frames.shape[-2], frames.shape[-1]))
        return cut_corners(frames, corners), corners
