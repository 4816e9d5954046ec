"""An image of dark and light squares, small untrained networks, and corrections."""

from pathlib import Path

import numpy as np
import torch

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, LabelClass, Legend, Roi

LEGEND = Legend((LabelClass(1, "dark", "#000000"), LabelClass(2, "light", "#ffffff")))
SMALL = {"encoder": "tu-test_efficientnet", "options": {"decoder_channels": 16}}
TIMM = {"encoder": "test_efficientnet", "width": 8}
METHODS = {
    "plain": {**SMALL, "window": 64},
    "scpseg": {**SMALL, "patch": 128, "window": 64, "inner": 48, "sr_width": 8},
    "sgnet": {**SMALL, "window": 64, "width": 8, "heads": 2, "shallow_width": 8},
    "isdnet": {**TIMM, "window": 64, "frame": 128},
    "glnet": {**TIMM, "patch": 64, "overview": 64, "frame": 128},
    "ehsnet": {"encoder": "hrnet_w18_small", "width": 8, "window": 64, "frame": 128},
}


def squares(side: tuple[int, int] = (640, 768), seed: int = 0) -> tuple:
    """Return the ground truth in class ids, (h, w) uint8, and its image."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 3, (side[0] // 32, side[1] // 32)).astype(np.uint8)
    truth = truth.repeat(32, 0).repeat(32, 1)
    data = truth[..., None] * 90 + rng.integers(0, 60, (*truth.shape, 3)) - 60
    image = image_from_array(data.astype(np.uint8), name="squares", rgb=True)
    return truth, image


def checkpoint(folder: Path, method: str = "plain", legend: Legend = LEGEND,
               seed: int = 0) -> Checkpoint:  # fmt: skip
    """Save and load an untrained network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(method, METHODS[method], legend).eval()
    card = Card(method, METHODS[method], legend, model.spec, trained_on="nothing")
    path = save_checkpoint(folder / f"{method}{seed}.safetensors", model, card)
    return load_checkpoint(path)


def correct(store: LabelStore, roi: Roi, ids: object) -> None:
    """Write class ids, an array or a number, to the corrections of a rectangle."""
    data = np.broadcast_to(np.asarray(ids, np.uint8), (roi.height, roi.width))
    write_levels(store.correction, roi, data.copy(), coarser_labels)


def stroke_everywhere(store: LabelStore, truth: np.ndarray, side: int = 24,
                      step: int = 128) -> None:  # fmt: skip
    """Write right corrections in separate squares."""
    for y in range(8, truth.shape[0] - side, step):
        for x in range(8, truth.shape[1] - side, step):
            roi = Roi(y, x, side, side)
            correct(store, roi, truth[roi.slices])
