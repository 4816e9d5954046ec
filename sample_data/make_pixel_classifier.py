"""Make the sample checkpoint of the pixel classifier.

python sample_data/make_pixel_classifier.py

It is trained on 2,000 pixels of each class of a mosaic of four training scenes, and
evaluated on a part of an unseen scene; both are computed.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_trainer import POINTS_PER_CLASS, trainer_of
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.samples.world import CLASSES, World
from napari_uhrseg.types import Legend, Roi

TRAINING, UNSEEN = (100, 101, 102, 103), 900
SIDE = 1024  # pixels of a scene
HERE = Path(__file__).parent
METHOD = "pixel_classifier"


def main() -> None:
    """Train, evaluate and save the checkpoint."""
    parts = [World(seed, (SIDE, SIDE)).render(0, 0, SIDE, SIDE) for seed in TRAINING]
    pixels, truth = (
        np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])
        for a, b, c, d in zip(*parts, strict=True)
    )
    legend = Legend(tuple(CLASSES))
    image = image_from_array(pixels, name="mosaic", rgb=True)
    made = new_checkpoint(METHOD, None, legend, image)
    trainer = trainer_of(image, made)
    rng = np.random.default_rng(0)
    at, channel = [], []
    for k, one in enumerate(legend):
        there = np.argwhere(truth == one.source_value)
        chosen = rng.permutation(len(there))[:POINTS_PER_CLASS]
        at.append(there[np.sort(chosen)])
        channel.append(np.full(len(chosen), k))
    trainer.fit(np.concatenate(at), np.concatenate(channel))
    model = trainer.model
    model.spec = replace(model.spec, pixel_size=0.5)
    card = replace(
        made.card,
        spec=model.spec,
        name="Sample landscape (Pixel classifier)",
        source="computed: napari_uhrseg.samples.world",
        licence="BSD-3-Clause; encoder weights: Apache-2.0",
        trained_on=f"{sum(map(len, at)):,} pixels of 4 computed scenes, seeds 100 to "
        f"103; evaluated on {SIDE} x {SIDE} pixels of seed {UNSEEN}",
        limitations="All images but the sample scenes. No photographs were used.",
    )
    path = save_checkpoint(HERE / f"{METHOD}.safetensors", model, card)
    pixels, truth = World(UNSEEN, (SIDE, SIDE)).render(0, 0, SIDE, SIDE)
    unseen = trainer_of(
        image_from_array(pixels, name="unseen", rgb=True), load_checkpoint(path)
    )
    labels, _ = unseen.predict(Roi(0, 0, SIDE, SIDE))
    counter = ConfusionMatrix([c.name for c in legend])
    known = np.full(256, 255, np.uint8)
    for k, one in enumerate(legend):
        known[one.source_value] = k
    counter.add(labels, known[truth])
    scores = counter.scores().to_dict()
    kept = {
        k: round(v, 4)
        for k, v in scores.items()
        if k.startswith(("miou", "iou/", "accuracy")) and "accuracy/" not in k
    }
    save_checkpoint(path, model, replace(card, metrics=kept))
    print(path, kept)


if __name__ == "__main__":
    main()
