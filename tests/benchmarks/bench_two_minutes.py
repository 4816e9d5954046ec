"""Measure the model that a user can keep after the first minutes of a training.

bench_two_minutes.py DIR [--grounds glands aerial] [--cpu-seconds 240] [--code NAME]
bench_two_minutes.py DIR --plan [--steps 40]

DIR has a folder of images and masks for each ground; only training scenes are used. A
new network (U-Net, shipped ImageNet weights) is trained on five strokes a class in one
view, and stopped after so much CPU time: 240 seconds are two minutes of two cores. The
mIoU is that of the view without the strokes, of the weights at that time. A row goes to
tables/two_minutes.csv. With --plan, the training runs to its end, and its time is
compared with the time that was expected before its first step.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from bench_finetune import Ground, labels_of
from bench_pixel_features import view_of
from bench_scratch import miou, strokes
from measurements import TABLES, put_rows

from napari_uhrseg.engine.events import Progress
from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.registry import DEFAULT_ENCODER
from napari_uhrseg.types import LabelClass, Legend, Roi

KEYS = ("ground", "code", "cpu_limit", "window", "seed")


def ground_of(folder: Path, name: str) -> Ground:
    """Return the view of a ground, with its classes from 1."""
    pixels, truth = view_of(folder, name)
    image = image_from_array(np.ascontiguousarray(pixels), name=name, rgb=True)
    ids = range(1, int(truth.max()) + 1)
    classes = tuple(LabelClass(k, f"class {k}", f"#{40 * k:02x}0000") for k in ids)
    return Ground(image, truth.astype(np.uint8), Legend(classes))


def trained(
    ground: Ground, args: argparse.Namespace, seed: int, limit: float
) -> dict[str, object]:
    """Train for ``limit`` CPU seconds; return steps, times, and the mIoU.

    Parameters
    ----------
    ground
        The view.
    args
        The command line.
    seed
        Seed of the strokes and of the training.
    limit
        CPU seconds after which the training is stopped.
    """
    given = strokes(ground.truth, [c.id for c in ground.legend], seed)
    arguments = {"architecture": "Unet", "window": args.window,
                 "encoder": DEFAULT_ENCODER}  # fmt: skip
    start = new_checkpoint("plain", arguments, ground.legend, ground.image)
    settings = FineTuneSettings(
        device="cpu", seed=seed, steps=args.steps, batch_size=args.batch_size
    )
    expected, steps = float("nan"), 0
    with (
        tempfile.TemporaryDirectory() as folder,
        LabelStore.create(None, ground.image, ground.legend) as store,
    ):
        write_levels(store.correction, Roi(0, 0, *given.shape), given, coarser_labels)
        output, began = Path(folder) / "n.safetensors", time.process_time()
        events = fine_tune(ground.image, start, store, output, settings, resume=True)
        clock = time.monotonic()
        for event in events:
            spent = time.process_time() - began
            if isinstance(event, Progress) and not event.done and event.seconds_left:
                expected, clock = event.seconds_left, time.monotonic()
            if isinstance(event, Progress):
                steps = event.done
            ends = isinstance(event, Progress) and event.done == event.total
            if limit < math.inf and (spent > limit or ends):
                break  # a finished training has no state
        took = time.monotonic() - clock
        if limit == math.inf:
            return {"expected_s": expected, "took_s": took, "ratio": took / expected}
        events.close()  # type: ignore[attr-defined]
        state = torch.load(f"{output}.state", weights_only=True)
    start.model.load_state_dict(state["model"])
    return {"steps": steps, "miou": miou(labels_of(start, ground), ground, given)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grounds", nargs="+", default=["glands", "aerial"])
    parser.add_argument("--cpu-seconds", type=float, default=240)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder")
    parser.add_argument("--code", default="now", help="name of the measured code")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in args.grounds:
        ground = ground_of(args.folder, name)
        for seed in args.seeds:
            if args.plan:
                print(name, trained(ground, args, seed, math.inf), flush=True)
                continue
            found = trained(ground, args, seed, args.cpu_seconds)
            row = {"ground": name, "code": args.code, "cpu_limit": args.cpu_seconds,
                   "window": args.window, "seed": seed, **found}  # fmt: skip
            put_rows(args.tables / "two_minutes.csv", [row], KEYS)
            print(row, flush=True)


if __name__ == "__main__":
    main()
