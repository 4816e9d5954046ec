"""Measure the seconds from a stroke to the live labels of a view.

bench_live_preview.py IMAGE [--view HEIGHT WIDTH]

The view is the middle of the image. One thread computes, as in the window on two cores.
Rows: a view that was never seen, the second class in a view at rest, a further stroke.
Each row has the seconds and the CPU seconds until the first and until all labels.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from napari_uhrseg.engine.events import LiveLabels
from napari_uhrseg.engine.finetuning.live_training import LiveTrainer
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import LabelClass, Legend, Roi, Stroke

LEGEND = Legend((LabelClass(1, "a", "#ff0000"), LabelClass(2, "b", "#0000ff")))
SIDE = 20  # pixels of a stroke


def paint(corrections: Corrections, view: Roi, place: float, class_id: int) -> Roi:
    """Paint a square at a share of the view's height and width, and return it."""
    y = view.y + int(place * (view.height - SIDE))
    x = view.x + int(place * (view.width - SIDE))
    roi = Roi(y, x, SIDE, SIDE)
    mask = np.ones((SIDE, SIDE), bool)
    corrections.apply(Stroke(roi, mask, np.full(mask.shape, class_id, np.uint8)))
    return roi


def measure(trainer: LiveTrainer, view: Roi, stroke: Roi | None) -> list[float]:
    """Return the seconds and CPU seconds until the first and until all labels."""
    start = np.array([time.perf_counter(), time.process_time()])
    first = None
    for part in trainer.follow(view, stroke):
        if isinstance(part, LiveLabels) and first is None:
            first = np.array([time.perf_counter(), time.process_time()]) - start
    end = np.array([time.perf_counter(), time.process_time()]) - start
    return [*(end if first is None else first), *end]


def trainer_of(image: Image, store: LabelStore) -> LiveTrainer:
    """Return the trainer of a new pixel classifier."""
    made = new_checkpoint("pixel_classifier", None, store.legend, image)
    return LiveTrainer(image, made, store)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--view", nargs=2, type=int, default=(900, 1200))
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    image = open_image(args.image)
    height, width = (min(a, b) for a, b in zip(args.view, image.shape, strict=True))
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    view = Roi(y, x, height, width)
    print("row, first labels (s), CPU s, all labels (s), CPU s")
    with LabelStore.create(None, image, LEGEND) as store:
        trainer = trainer_of(image, store)
        with Corrections.open(store) as corrections:
            paint(corrections, view, 0.2, 1)
            rows = {"features of the view": measure(trainer, view, None)}
            stroke = paint(corrections, view, 0.8, 2)
            rows["second class, view at rest"] = measure(trainer, view, stroke)
            for place in (0.4, 0.6):
                stroke = paint(corrections, view, place, 1)
                rows[f"further stroke at {place}"] = measure(trainer, view, stroke)
            unseen = trainer_of(image, store)
            rows["view never seen"] = measure(unseen, view, stroke)
    for name, values in rows.items():
        print(", ".join([f"{height} x {width}: {name}", *(f"{v:.2f}" for v in values)]))


if __name__ == "__main__":
    main()
