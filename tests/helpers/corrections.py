"""An image of dark and light squares, small untrained networks, and corrections."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from helpers.networks import LinearNet
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_uhrseg.models.registry import REGISTRY, build
from napari_uhrseg.types import Card, LabelClass, Legend, Roi

LEGEND = Legend((LabelClass(1, "dark", "#000000"), LabelClass(2, "light", "#ffffff")))
METHODS = {name: dict(entry.small_arguments) for name, entry in REGISTRY.items()}


def squares(side: tuple[int, int] = (640, 768), seed: int = 0) -> tuple:
    """Return the ground truth in class ids, (h, w) uint8, and its image."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 3, (side[0] // 32, side[1] // 32)).astype(np.uint8)
    truth = truth.repeat(32, 0).repeat(32, 1)
    data = truth[..., None] * 90 + rng.integers(0, 60, (*truth.shape, 3)) - 60
    image = image_from_array(data.astype(np.uint8), name="squares", rgb=True)
    return truth, image


def checkpoint(folder: Path, method: str = "plain", legend: Legend = LEGEND,
               seed: int = 0, **options: object) -> Checkpoint:  # fmt: skip
    """Save and load an untrained network.

    Parameters
    ----------
    folder
        Folder of the file.
    method
        Name in the registry.
    legend
        Its classes.
    seed
        Seed of the weights.
    **options
        Arguments of the network that replace those of `METHODS`.
    """
    arguments = {**METHODS[method], **options}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(method, arguments, legend).eval()
    card = Card(method, arguments, legend, model.spec, trained_on="nothing")
    path = save_checkpoint(folder / f"{method}{seed}.safetensors", model, card)
    return load_checkpoint(path)


def correct(store: LabelStore, roi: Roi, ids: object) -> None:
    """Write class ids, an array or a number, to the corrections of a rectangle."""
    data = np.broadcast_to(np.asarray(ids, np.uint8), (roi.height, roi.width))
    write_levels(store.correction, roi, data.copy(), coarser_labels)


def stroke_everywhere(store: LabelStore, truth: np.ndarray, side: int = 24,
                      step: int = 128) -> None:  # fmt: skip
    """Write right corrections in separate squares, and no others."""
    ids = np.zeros_like(truth)
    for y in range(8, truth.shape[0] - side, step):
        for x in range(8, truth.shape[1] - side, step):
            roi = Roi(y, x, side, side)
            ids[roi.slices] = truth[roi.slices]
    correct(store, Roi(0, 0, *truth.shape), ids)


def two_tone(side: tuple[int, int] = (320, 320)) -> tuple:
    """Return the ground truth, dark left and light right, and its image."""
    truth = np.ones(side, np.uint8)
    truth[:, side[1] // 2 :] = 2
    data = np.repeat(np.where(truth == 2, 230, 20)[..., None], 3, -1).astype(np.uint8)
    return truth, image_from_array(data, name="two tones", rgb=True)


def linear_checkpoint(
    slopes: Sequence[float],
    offsets: Sequence[float],
    legend: Legend = LEGEND,
    file_hash: str = "linear",
) -> Checkpoint:
    """Return a linear classifier of brightness, whose training is a convex problem."""
    model = LinearNet(slopes, offsets).eval()
    card = Card("linear", {}, legend, model.spec, trained_on="nothing")
    return Checkpoint(model, card, file_hash, Path("linear.safetensors"))


def linear_labels(path: Path, image: Image) -> np.ndarray:
    """Return the class ids that a saved linear classifier gives an image."""
    weights = load_file(path)
    brightness = image.read(Roi(0, 0, *image.shape)).data.mean(-1) / 255
    slopes, offsets = (weights[k].numpy() for k in ("slopes", "offsets"))
    return (brightness[..., None] * slopes + offsets).argmax(-1) + 1


def dark_checkpoint(folder: Path) -> Checkpoint:
    """Save and load a network that says dark everywhere, by a small margin.

    The weights of its last layer are 0, and its last features are not negative. If all
    corrections say light, each step makes each pixel lighter, on every machine.
    """
    made = checkpoint(folder)
    with torch.no_grad():
        head = made.model.net.segmentation_head[0]
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.01, -0.01]))
    return load_checkpoint(save_checkpoint(made.path, made.model, made.card))
