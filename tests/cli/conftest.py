"""Real files for the command line: a picture, masks, a small checkpoint."""

import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_uhrseg.models.checkpoint import save_checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, LabelClass, Legend

SMALL = {
    "architecture": "Unet",
    "encoder": "tu-test_efficientnet",
    "window": 64,
    "options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
}
LEGEND = Legend(
    (
        LabelClass(1, "dark", "#101010", 0),
        LabelClass(2, "light", "#f0f0f0", 1),
    )
)


@pytest.fixture(autouse=True)
def signals():
    """Restore the handlers, which an interrupted command leaves for its process."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(n) for n in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def picture(seed: int, side: tuple[int, int] = (300, 420)) -> np.ndarray:
    """Squares of dark and light with noise; the light ones are above 128."""
    noise = np.random.default_rng(seed)
    squares = noise.integers(0, 2, (side[0] // 50 + 1, side[1] // 50 + 1))
    grey = squares.repeat(50, 0).repeat(50, 1)[: side[0], : side[1]] * 150 + 40
    grey = grey + noise.integers(-20, 20, grey.shape)
    return np.stack([grey] * 3, -1).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A folder with ``picture.tif``, ``images/``, ``masks/``, ``net.safetensors``."""
    folder = tmp_path_factory.mktemp("cli")
    tifffile.imwrite(folder / "picture.tif", picture(0), photometric="rgb")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for seed in range(3):
        data = picture(seed)
        tifffile.imwrite(folder / f"images/{seed}.tif", data, photometric="rgb")
        mask = (data[..., 0] > 128).astype(np.uint8)
        mask[:20] = 9
        tifffile.imwrite(folder / f"masks/{seed}.tif", mask)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("plain", SMALL, LEGEND).eval()
    card = Card("plain", SMALL, LEGEND, model.spec, name="small net")
    save_checkpoint(folder / "net.safetensors", model, card)
    return folder
