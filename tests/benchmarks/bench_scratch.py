"""Compare a new network, trained on five strokes a class, with a random forest.

bench_scratch.py [--aerial DIR]

The grounds are a view of the sample slide (whose truth is computed) and, with --aerial,
one of a photograph. A stroke is a wavering line within one object. The random forest
(Breiman, Machine Learning 45, 2001) is scikit-learn's, on skimage's multiscale basic
features of every pixel of every stroke. mIoU is that of the view without the strokes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from bench_finetune import Ground, aerial, labels_of
from scipy.ndimage import distance_transform_edt
from simulated_user import UNKNOWN, Labels
from skimage.feature import multiscale_basic_features
from skimage.measure import label as connected
from sklearn.ensemble import RandomForestClassifier

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.samples import slide
from napari_uhrseg.types import LabelClass, Legend, Roi

VIEW = 1024  # pixels a side
STROKES, LENGTH, WIDTH = 5, 60, 4  # a class; pixels
SLIDE_AT = (3840, 3328)
AERIAL_AT = {4: (300, 300)}
AERIAL = Legend(
    tuple(
        LabelClass(i + 1, name, color, i)
        for i, (name, color) in enumerate(
            [("building", "#3c1098"), ("unpaved", "#8429f6"), ("road", "#6ec1e4"),
             ("vegetation", "#fedd3a"), ("water", "#e2a929")]
        )
    )
)  # fmt: skip


def view_of_slide(side: int) -> Ground:
    """Return a view of the sample slide, with the classes that occur in it."""
    y, x = SLIDE_AT
    image = image_from_array(slide.render(y, x, side, side), name="slide", rgb=True)
    truth = slide.labels(y, x, side, side)
    present = [c for c in slide.CLASSES if (truth == c.id).any()]
    return Ground(image, truth, Legend(tuple(present)))


def view_of_aerial(folder: Path, scene: int, side: int) -> Ground:
    """Return a view of a photograph, with the classes of more than 1 % of it.

    Parameters
    ----------
    folder
        Has the folders ``images`` and ``masks``.
    scene
        The number in the files' names.
    side
        The side of the view in pixels.
    """
    whole = aerial(folder, AERIAL, scene)
    roi = Roi(*AERIAL_AT.get(scene, (0, 0)), side, side)
    roi = roi.intersect(Roi(0, 0, *whole.image.shape))
    pixels = whole.image.read(roi).data
    image = image_from_array(np.ascontiguousarray(pixels), name=f"aerial {scene}",
                             rgb=True)  # fmt: skip
    truth = whole.truth[roi.slices]
    present = [c for c in AERIAL if (truth == c.id).mean() > 0.01]
    truth = np.where(np.isin(truth, [c.id for c in present]), truth, UNKNOWN)
    return Ground(image, truth.astype(np.uint8), Legend(tuple(present)))


def strokes(truth: Labels, ids: list[int], seed: int) -> Labels:
    """Return corrections: for each class wavering lines, each inside one object.

    Parameters
    ----------
    truth
        (height, width) class ids.
    ids
        The classes to paint.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    found = np.zeros_like(truth)
    yy, xx = np.mgrid[: truth.shape[0], : truth.shape[1]]
    for class_id in ids:
        inside = distance_transform_edt(truth == class_id)
        objects = connected(inside > min(WIDTH, inside.max() / 2))
        numbers, sizes = np.unique(objects[objects > 0], return_counts=True)
        for _ in range(STROKES):
            # users paint where there is much of it
            number = rng.choice(numbers, p=np.sqrt(sizes) / np.sqrt(sizes).sum())
            at = np.argwhere(objects == number)
            y, x = at[rng.integers(len(at))].astype(float)
            angle = rng.uniform(0, 2 * np.pi)
            for _ in range(LENGTH):
                angle += rng.normal(0, 0.2)
                ny, nx = y + np.sin(angle), x + np.cos(angle)
                row, column = round(ny), round(nx)
                if not (0 <= row < truth.shape[0] and 0 <= column < truth.shape[1]) or (
                    truth[row, column] != class_id
                ):
                    angle += np.pi / 2
                    continue
                y, x = ny, nx
                near = np.s_[
                    max(0, row - WIDTH) : row + WIDTH + 1,
                    max(0, column - WIDTH) : column + WIDTH + 1,
                ]
                disc = (yy[near] - y) ** 2 + (xx[near] - x) ** 2 <= (WIDTH / 2) ** 2
                found[near][disc & (truth[near] == class_id)] = class_id
    return found


def miou(found: Labels, ground: Ground, given: Labels) -> float:
    """Return the mIoU of the pixels outside the strokes.

    Parameters
    ----------
    found
        (height, width) labels, as class ids.
    ground
        The view.
    given
        (height, width) strokes; 0 where there is none.
    """
    asked = (ground.truth != UNKNOWN) & (given == 0)
    truth, labels = ground.truth[asked], found[asked]
    return float(
        np.mean(
            [
                ((truth == c.id) & (labels == c.id)).sum()
                / ((truth == c.id) | (labels == c.id)).sum()
                for c in ground.legend
            ]
        )
    )


def forest(ground: Ground, given: Labels, seed: int) -> Labels:
    """Return the labels of a random forest that is trained on the strokes.

    Parameters
    ----------
    ground
        The view.
    given
        (height, width) strokes; 0 where there is none.
    seed
        Of the random numbers.
    """
    pixels = ground.image.read(Roi(0, 0, *ground.image.shape)).data
    features = multiscale_basic_features(
        pixels, intensity=True, edges=True, texture=True, sigma_min=1, sigma_max=16,
        channel_axis=-1,
    )  # fmt: skip
    trees = RandomForestClassifier(
        100, n_jobs=2, max_depth=10, max_samples=0.5, random_state=seed
    )
    trees.fit(features[given > 0], given[given > 0])
    answer: npt.NDArray[np.uint8] = trees.predict(
        features.reshape(-1, features.shape[-1])
    )
    return answer.reshape(given.shape)


def network(
    ground: Ground, given: Labels, seed: int, args: argparse.Namespace
) -> tuple[Labels, tuple[float, float]]:
    """Train a network on the strokes; return its labels, seconds and CPU seconds.

    Parameters
    ----------
    ground
        The view.
    given
        (height, width) strokes; 0 where there is none.
    seed
        Of the random numbers.
    args
        The command line.
    """
    start = new_checkpoint(args.method, args.arguments, ground.legend, ground.image,
                  args.encoder, pretrained=args.pretrained)  # fmt: skip
    output = args.work / f"scratch-{ground.image.name.replace(' ', '-')}.safetensors"
    settings = FineTuneSettings(steps=args.steps, seed=seed, device="cpu")
    with LabelStore.create(None, ground.image, ground.legend) as store:
        write_levels(store.correction, Roi(0, 0, *given.shape), given, coarser_labels)
        clock, began = time.process_time(), time.monotonic()
        for event in fine_tune(
            ground.image, start, store, output, settings, overwrite=True
        ):
            if isinstance(event, FineTuneFinished):
                break
        took = time.monotonic() - began, time.process_time() - clock
    return labels_of(load_checkpoint(output), ground), took


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line; measure and print both for every view and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aerial", type=Path, help="a folder of images and masks")
    parser.add_argument("--scenes", type=int, nargs="*", default=[4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--method", default="plain")
    parser.add_argument("--encoder", default="tu-mobilenetv4_conv_small_050")
    parser.add_argument("--arguments", type=json.loads, help="of the method, as JSON")
    parser.add_argument("--pretrained", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("."))
    parser.add_argument("--side", type=int, default=VIEW, help="of a view, pixels")
    parser.add_argument("--no-slide", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    grounds = [] if args.no_slide else [view_of_slide(args.side)]
    if args.aerial:
        grounds += [view_of_aerial(args.aerial, n, args.side) for n in args.scenes]
    for ground in grounds:
        ids = [c.id for c in ground.legend]
        for seed in args.seeds:
            given = strokes(ground.truth, ids, seed)
            clock = time.process_time()
            theirs = miou(forest(ground, given, seed), ground, given)
            spent = time.process_time() - clock
            print(f"{ground.image.name}, strokes {seed} ({(given > 0).sum()} pixels): "
                  f"forest {theirs:.3f} in {spent:.0f} CPU s", flush=True)  # fmt: skip
            found, took = network(ground, given, seed, args)
            ours = miou(found, ground, given)
            seconds, cpu = took
            print(f"    network {ours:.3f} in {seconds:.0f} s ({cpu:.0f} CPU s)",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
