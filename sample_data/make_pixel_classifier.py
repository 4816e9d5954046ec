"""Make the sample checkpoints of the pixel classifier.

python sample_data/make_pixel_classifier.py [world] [slide]

Each is trained on 2,000 pixels of each class of a mosaic of four computed parts, and
evaluated on another part: an unseen scene, or a place in another piece of the tissue.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_trainer import (
    POINTS_PER_CLASS,
    PixelTrainer,
    trainer_of,
)
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.samples import slide
from napari_uhrseg.samples.world import CLASSES, World
from napari_uhrseg.types import Legend, Roi

SIDE = 1024  # pixels of a part
HERE = Path(__file__).parent
METHOD = "pixel_classifier"
Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """A sample image: its parts, classes and the texts of the card."""

    file: str
    legend: Legend
    part: Callable[[tuple[int, ...]], tuple[Array, Array]]  # its pixels and mask values
    training: tuple[tuple[int, ...], ...]
    unseen: tuple[int, ...]
    pixel_size: float  # metres
    texts: dict[str, str]


def part_of_world(key: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the pixels and the classes of the scene of a seed."""
    return World(key[0], (SIDE, SIDE)).render(0, 0, SIDE, SIDE)


def part_of_slide(key: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the pixels and the classes of the slide at a row and a column."""
    y, x = key
    return slide.render(y, x, SIDE, SIDE), slide.labels(y, x, SIDE, SIDE)


LICENCE = "BSD-3-Clause; encoder weights: Apache-2.0"
SAMPLES = {
    "world": Sample(
        f"{METHOD}.safetensors",
        Legend(tuple(CLASSES)),
        part_of_world,
        ((100,), (101,), (102,), (103,)),
        (900,),
        0.5,
        {
            "name": "Sample landscape (Pixel classifier)",
            "source": "computed: napari_uhrseg.samples.world",
            "licence": LICENCE,
            "trained_on": "{pixels} pixels of 4 computed scenes, seeds 100 to 103; "
            f"evaluated on {SIDE} x {SIDE} pixels of seed 900",
            "limitations": "All images but the sample scenes. No photographs were "
            "used.",
        },
    ),
    "slide": Sample(
        f"{METHOD}_slide.safetensors",
        Legend(
            tuple(replace(c, source_value=c.id) for c in slide.CLASSES)
        ),
        part_of_slide,
        ((1024, 1200), (1700, 2400), (3700, 2700), (4000, 3700)),
        (1200, 5600),
        slide.PIXEL_SIZE_UM * 1e-6,
        {
            "name": "Sample slide (Pixel classifier)",
            "source": "computed: napari_uhrseg.samples.slide",
            "licence": LICENCE,
            "trained_on": "{pixels} pixels of 2 pieces of tissue of the sample slide; "
            f"evaluated on {SIDE} x {SIDE} pixels of the third piece",
            "limitations": "All images but the sample slide. No real tissue was used.",
        },
    ),
}  # fmt: skip


def trained(sample: Sample) -> tuple[PixelTrainer, int]:
    """Return the trained classifier of a sample, and the number of its pixels."""
    parts = [sample.part(key) for key in sample.training]
    pixels, truth = (
        np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])
        for a, b, c, d in zip(*parts, strict=True)
    )
    image = image_from_array(pixels, name="mosaic", rgb=True)
    trainer = trainer_of(image, new_checkpoint(METHOD, None, sample.legend, image))
    rng = np.random.default_rng(0)
    at, channel = [], []
    for k, one in enumerate(sample.legend):
        there = np.argwhere(truth == one.source_value)
        chosen = rng.permutation(len(there))[:POINTS_PER_CLASS]
        at.append(there[np.sort(chosen)])
        channel.append(np.full(len(chosen), k))
    trainer.fit(np.concatenate(at), np.concatenate(channel))
    return trainer, sum(map(len, at))


def scores_of(sample: Sample, path: Path) -> dict[str, float]:
    """Return the scores of a checkpoint on the unseen part."""
    pixels, truth = sample.part(sample.unseen)
    image = image_from_array(pixels, name="unseen", rgb=True)
    labels, _ = trainer_of(image, load_checkpoint(path)).predict(Roi(0, 0, SIDE, SIDE))
    counter = ConfusionMatrix([c.name for c in sample.legend])
    known = np.full(256, 255, np.uint8)
    for k, one in enumerate(sample.legend):
        known[one.source_value] = k
    counter.add(labels, known[truth])
    return {
        k: round(v, 4)
        for k, v in counter.scores().to_dict().items()
        if k.startswith(("miou", "iou/", "accuracy")) and "accuracy/" not in k
    }


def make(sample: Sample) -> None:
    """Train, evaluate and save the checkpoint of a sample."""
    trainer, pixels = trained(sample)
    model = trainer.model
    model.spec = replace(model.spec, pixel_size=sample.pixel_size)
    image = image_from_array(np.zeros((64, 64, 3), np.uint8), name="new", rgb=True)
    made = new_checkpoint(METHOD, None, sample.legend, image)
    texts = {k: v.format(pixels=f"{pixels:,}") for k, v in sample.texts.items()}
    card = replace(made.card, spec=model.spec, **texts)
    path = save_checkpoint(HERE / sample.file, model, card)
    scores = scores_of(sample, path)
    save_checkpoint(path, model, replace(card, metrics=scores))
    print(path, scores)


def main() -> None:
    """Read the command line and make the checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*SAMPLES], metavar="world|slide")
    for name in parser.parse_args().names:
        if name not in SAMPLES:
            parser.error(f"{name} is none of {', '.join(SAMPLES)}")
        make(SAMPLES[name])


if __name__ == "__main__":
    main()
