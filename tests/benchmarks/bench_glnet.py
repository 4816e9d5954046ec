"""Compare GLNet coarse to fine with the full run, where little is foreground.

A small GLNet learns to find one dark spot with a ragged outline, as a dermatoscope
shows them: once as published and once coarse to fine, from the same scenes in as many
steps. Each then labels other scenes.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.glnet import GLNet

SMALL = {"encoder": "mobilenetv4_conv_small_050", "width": 32, "patch": 256,
         "overview": 256, "patches_per_step": 4}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Side of a scene in pixels, scenes to test and to train on, steps a stage."""

    side: int = 1024
    seeds: int = 6
    training: int = 24
    steps: int = 120


FULL, TINY = Size(), Size(512, 1, 2, 1)


def scene(seed: int, side: int) -> tuple[Tensor, Tensor]:
    """Return an image and its mask, which has less than 5 % foreground.

    The spot's outline is ragged on a scale that the overview does not show.

    Returns
    -------
    tuple of Tensor
        (1, 3, side, side) values in [0, 1] and (1, side, side) values 0 or 1.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    centre = rng.uniform(0.25 * side, 0.75 * side, 2)
    radius = rng.uniform(0.07, 0.11) * side
    ragged = 14 * gaussian_filter(rng.standard_normal((side, side)), 5) * 5
    inside = np.hypot(y - centre[0], x - centre[1]) + ragged < radius
    fine, coarse = (
        gaussian_filter(rng.standard_normal((side, side, 3)), (s, s, 0)) * s
        for s in (1, 3)
    )
    data = (
        0.55
        + 0.15 * np.where(inside[..., None], fine, coarse)
        - 0.2 * inside[..., None]
    )
    image = torch.from_numpy(data.astype(np.float32)).permute(2, 0, 1)[None]
    return image.clamp(0, 1), torch.from_numpy(inside.astype(np.int64))[None]


def trained(
    coarse_to_fine: bool, scenes: list[tuple[Tensor, Tensor]], size: Size
) -> GLNet:
    """Return a trained network; the later stages of the two variants differ.

    Parameters
    ----------
    coarse_to_fine
        The variant.
    scenes
        Images and masks to train on.
    size
        The amount of work.
    """
    torch.manual_seed(0)
    chance = np.random.default_rng(0)
    net = GLNet(2, **SMALL, frame=size.side, coarse_to_fine=coarse_to_fine)
    for stage in net.recipe.stages:
        net.begin_stage(stage, first=True)
        net.train()
        learning = [
            p for n, p in net.named_parameters() if n.startswith(stage.trainable)
        ]
        optimizer = torch.optim.AdamW(learning, 0.004)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.steps)
        for _ in range(size.steps):
            pairs = (scenes[i] for i in chance.integers(0, len(scenes), 2))
            views, targets = (torch.cat(p) for p in zip(*pairs, strict=True))
            batch = Batch({"local": views}, target=targets)
            optimizer.zero_grad()
            net.loss(net(batch), batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(learning, 1)
            optimizer.step()
            rate.step()
    return net.eval()


def labelled(net: GLNet, size: Size) -> Iterator[tuple[float, float]]:
    """Yield seconds and IoU of the foreground, scene by scene."""
    for seed in range(size.seeds):
        image, target = scene(seed, size.side)
        start = time.perf_counter()
        with torch.inference_mode():
            found = net(Batch({"local": image}))["logits"].argmax(1)
        seconds = time.perf_counter() - start
        hit = float(((found == 1) & (target == 1)).sum())
        yield seconds, hit / float(((found == 1) | (target == 1)).sum())


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure both variants on the same scenes; takes no files."""
    masks = [scene(seed, size.side)[1] for seed in range(size.seeds)]
    share = np.mean([float(mask.float().mean()) for mask in masks])
    table = Table(
        title=f"GLNet, foreground {share:.1%} of {size.side} x {size.side} pixels"
    )
    for title in ("variant", "seconds a scene", "against full", "foreground IoU"):
        table.add_column(title, justify="right")
    scenes = [scene(1000 + i, size.side) for i in range(size.training)]
    first = 0.0
    for name, fine in (("full", False), ("coarse to fine", True)):
        seconds, scores = zip(*labelled(trained(fine, scenes, size), size), strict=True)
        mean = float(np.mean(seconds))
        first = first or mean
        table.add_row(name, f"{mean:.2f}", f"{mean / first:.2f}",
                      f"{np.mean(scores):.3f}")  # fmt: skip
    return table
