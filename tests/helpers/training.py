"""Scenes to train on and settings of a short training, one for each method."""

from dataclasses import replace

import numpy as np

from helpers.scenes import ArrayTarget
from napari_uhrseg.engine.data.scenes import Scene, SceneDataset
from napari_uhrseg.engine.training.train import TrainSettings
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.types import LabelClass, Legend

LEGEND = Legend(
    (LabelClass(1, "dark", "#000000", 0), LabelClass(2, "light", "#ffffff", 1))
)
SMALL = {"encoder": "tu-test_efficientnet", "options": {"decoder_channels": 16}}
PLAIN = TrainSettings(
    "plain",
    {**SMALL, "window": 64},
    steps=6,
    batch_size=2,
    learning_rate=0.002,
    optimizer="adamw",
    clip=1.0,
    device="cpu",
    precision="fp32",
    pretrained=False,
    validate_every=4,
    log_every=2,
)
SCPSEG = replace(
    PLAIN,
    model="scpseg",
    arguments={**SMALL, "patch": 128, "window": 64, "inner": 48, "sr_width": 8},
)
SGNET = replace(
    PLAIN,
    model="sgnet",
    arguments={**SMALL, "window": 64, "width": 8, "heads": 2, "shallow_width": 8},
)
ENCODER = {"encoder": "test_efficientnet", "width": 8}
ISDNET = replace(
    PLAIN, model="isdnet", arguments={**ENCODER, "window": 64, "frame": 128}
)
GLNET = replace(
    PLAIN,
    model="glnet",
    arguments={**ENCODER, "patch": 64, "overview": 64, "frame": 128},
    log_every=3,  # so that two stages fall into one
)


def make_scene(seed: int, side: tuple[int, int] = (160, 192)) -> Scene:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 2, (side[0] // 32, side[1] // 32)).astype(np.uint8)
    labels = cells.repeat(32, 0).repeat(32, 1)
    data = labels[..., None] * 120 + rng.integers(0, 100, (*labels.shape, 3))
    image = image_from_array(data.astype(np.uint8), name=f"s{seed}", rgb=True)
    return Scene(f"s{seed}", image, ArrayTarget(labels))


def make_source(held_out: int = 1) -> SceneDataset:
    return SceneDataset(
        LEGEND,
        (make_scene(0), make_scene(1)),
        tuple(map(make_scene, range(9, 9 + held_out))),
    )
