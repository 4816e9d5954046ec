"""Measure how strokes of one class change the labels of the others.

bench_forgetting.py [--method plain] [--class river] [--strokes 6] [--steps 60]

The sample checkpoint labels its own scene. The user paints strokes of one class only,
where it is labelled as another. The checkpoint is fine-tuned. The IoU of every class is
measured on the 2048 x 2048 pixels around, before and after.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from bench_finetune import Ground, labels_of, learn
from common import sample
from simulated_user import UNKNOWN, Labels, paint

from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.samples import data_dir
from napari_uhrseg.types import Roi

LOOKED_AT = Roi(0, 512, 2048, 2048)
LEAST = 2000  # pixels of a class that is compared


def ious(found: Labels, ground: Ground) -> dict[str, float]:
    """Return the IoU of every class with enough pixels in the measured square."""
    truth, labels = (a[LOOKED_AT.slices] for a in (ground.truth, found))
    there = [c for c in ground.legend if (truth == c.id).sum() >= LEAST]
    return {
        c.name: float(
            ((truth == c.id) & (labels == c.id)).sum()
            / ((truth == c.id) | (labels == c.id)).sum()
        )
        for c in there
    }


def part(ground: Ground, side: int) -> Ground:
    """Return the part of the ground with ``side`` pixels a side of the square."""
    roi = Roi(0, 0, side, LOOKED_AT.x + side)
    pixels = ground.image.read(roi).data
    image = image_from_array(pixels, name=ground.image.name, rgb=True)
    return Ground(image, ground.truth[roi.slices], ground.legend)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line; measure, and print the IoU of every class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="plain")
    parser.add_argument("--class", dest="painted", default="river")
    parser.add_argument("--strokes", type=int, default=6)
    parser.add_argument("--radius", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, help="less than all of the square, pixels")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    start = sample(f"{args.method}.safetensors")
    checkpoint = load_checkpoint(start)
    with rasterio.open(data_dir() / "scene_labels.tif") as file:
        truth = file.read(1)
    legend = checkpoint.card.legend
    ground = Ground(open_image(data_dir() / "scene.tif"), truth, legend)
    if args.side:
        ground = part(ground, args.side)
    chosen = legend.named(args.painted)
    if chosen is None:
        parser.error(f"{args.painted} is no class of {start.name}")
    known = np.where(ground.truth == chosen.id, ground.truth, UNKNOWN)
    near = np.zeros(known.shape, bool)
    near[LOOKED_AT.slices] = True
    shown = labels_of(checkpoint, ground)
    with (
        tempfile.TemporaryDirectory() as folder,
        LabelStore.create(None, ground.image, legend) as store,
    ):
        painted = paint(store, known, shown, near, args.strokes, args.radius)
        output = Path(folder) / "fine-tuned.safetensors"
        settings = FineTuneSettings(steps=args.steps, seed=args.seed, device="cpu")
        clock = time.process_time()
        figures = learn(ground, start, store, output, settings)
        took = time.process_time() - clock
        after = ious(labels_of(load_checkpoint(output), ground), ground)
    before = ious(shown, ground)
    print(f"{painted} pixels painted, {args.steps} steps, {took:.0f} CPU s")
    print(figures["comparison"])
    for name, value in before.items():
        print(f"{name:15} {100 * value:5.1f} -> {100 * after[name]:5.1f}")
    means = (100 * float(np.mean(list(some.values()))) for some in (before, after))
    print("{:15} {:5.1f} -> {:5.1f}".format("mean", *means))


if __name__ == "__main__":
    main()
