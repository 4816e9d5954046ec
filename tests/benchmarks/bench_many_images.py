"""Compare one model from three images with three models from one image each.

bench_many_images.py DIR [--grounds NAME ...] [--seeds N ...] [--methods NAME ...]

DIR has a folder of images and masks for each ground. A simulated user paints the same
five strokes a class in three training images. All models are new, and have the same
settings. Each model labels held-out images; the mIoU is that of all their pixels. The
figure of the three models is the mean of their three mIoUs. Rows go to
tables/many_images.csv.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from bench_finetune import Ground, labels_of
from bench_quick_classifier import DATA
from bench_scratch import strokes
from measurements import TABLES, markdown, put_rows, read_rows
from PIL import Image

from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.engine.finetuning.finetune import fine_tune
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import FineTuneSettings, LabelClass, Legend, Roi

TABLE = "many_images.csv"
KEYS = ("ground", "method", "seed")
GROUNDS = ("glands", "nuclei")  # each of their classes occurs in every image
LEGEND = Legend((LabelClass(1, "other", "#d8b8d0"), LabelClass(2, "object", "#50308f")))
TAUGHT, TESTED = 3, 8  # images


def ground_of(folder: Path, name: str) -> Ground:
    """Return an image of two classes with its mask."""
    with Image.open(folder / "images" / f"{name}.png") as file:
        pixels = np.array(file.convert("RGB"))
    with Image.open(folder / "masks" / f"{name}.png") as file:
        truth = np.array(file).astype(np.uint8) + 1
    image = image_from_array(pixels, name=name, rgb=True)
    image.fingerprint = name  # images in memory have none
    return Ground(image, truth, LEGEND)


def taught(
    grounds: Sequence[Ground], method: str, steps: int | None, seed: int
) -> Checkpoint:
    """Return a new model that is trained on strokes in some images.

    Parameters
    ----------
    grounds
        The images.
    method
        The name of the model.
    steps
        Of the training; ``None``: chosen automatically.
    seed
        Of strokes, samples and dropout.
    """
    pretrained = method != "pixel_classifier"
    start = new_checkpoint(
        method, None, LEGEND, grounds[0].image, pretrained=pretrained
    )
    settings = FineTuneSettings(steps=steps, seed=seed, device="cpu")
    stores = [LabelStore.create(None, ground.image, LEGEND) for ground in grounds]
    ids = [c.id for c in LEGEND]
    for k, (ground, store) in enumerate(zip(grounds, stores, strict=True)):
        given = strokes(ground.truth, ids, 100 * seed + k)
        write_levels(store.correction, Roi(0, 0, *given.shape), given, coarser_labels)
    images = [ground.image for ground in grounds]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "taught.safetensors"
        for event in fine_tune(images, start, stores, output, settings):
            if isinstance(event, FineTuneFinished):
                break
        for store in stores:
            store.close()
        return load_checkpoint(output)


def miou(checkpoint: Checkpoint, grounds: Sequence[Ground]) -> float:
    """Return the mIoU of a checkpoint on all pixels of some images."""
    matrix = ConfusionMatrix([c.name for c in LEGEND])
    for ground in grounds:
        matrix.add(labels_of(checkpoint, ground) - 1, ground.truth - 1)
    return float(matrix.scores().miou)


def measure(
    folder: Path, method: str, steps: int | None, seed: int
) -> dict[str, object]:
    """Return the row of a ground, a method and a seed.

    Parameters
    ----------
    folder
        Of the ground.
    method
        The name of the model.
    steps
        Of each training; ``None``: chosen automatically.
    seed
        Of the chosen images, strokes and training.
    """
    data = DATA[folder.name]
    rng = np.random.default_rng(seed)
    there = {path.stem for path in (folder / "images").iterdir()}
    names = rng.choice(sorted(there & {*data.tuning}), TAUGHT, replace=False)
    grounds = [ground_of(folder, str(name)) for name in names]
    tested = [ground_of(folder, n) for n in data.names if n in there][:TESTED]
    start = time.process_time()
    together = miou(taught(grounds, method, steps, seed), tested)
    alone = [miou(taught([ground], method, steps, seed), tested) for ground in grounds]
    return {
        "ground": folder.name, "method": method, "seed": seed, "steps": steps,
        "together": together, "alone": mean(alone), "best_alone": max(alone),
        "cpu_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the means of the seeds as Markdown."""
    lines = []
    for ground, method in sorted({(row["ground"], row["method"]) for row in rows}):
        own = [r for r in rows if (r["ground"], r["method"]) == (ground, method)]
        figures = [
            f"{100 * mean(float(row[key]) for row in own):.1f}"
            for key in ("together", "alone", "best_alone")
        ]
        lines.append([ground, method, str(len(own)), *figures])
    heads = ["ground", "method", "seeds", "one model from three images",
             "three models, mean", "best of the three"]  # fmt: skip
    return markdown(heads, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grounds", nargs="+", default=[*GROUNDS], choices=GROUNDS)
    parser.add_argument("--methods", nargs="+", default=["pixel_classifier", "plain"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tables", type=Path, default=TABLES)
    args = parser.parse_args(arguments)
    for method in args.methods:
        for ground in args.grounds:
            for seed in args.seeds:
                row = measure(args.folder / ground, method, args.steps, seed)
                print(row, flush=True)
                put_rows(args.tables / TABLE, [row], KEYS)
    print(table(read_rows(args.tables / TABLE)))


if __name__ == "__main__":
    main()
