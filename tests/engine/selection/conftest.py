"""Work areas with known regions."""

import numpy as np
import pytest

from napari_uhrseg.engine.selection.work_area import WorkArea
from napari_uhrseg.types import Roi


def work_area(pixels: np.ndarray, valid: np.ndarray | None = None) -> WorkArea:
    shape = pixels.shape[:2]
    valid = np.ones(shape, bool) if valid is None else valid
    return WorkArea(Roi(0, 0, *shape), 0, pixels.astype(np.float32), valid)


@pytest.fixture
def disk_area():
    """Return a noisy work area with a red disk on grey, and the mask of the disk."""
    y, x = np.mgrid[:96, :128]
    disk = (y - 48) ** 2 + (x - 60) ** 2 <= 30**2
    pixels = np.where(disk[..., None], (0.8, 0.2, 0.2), 0.5)
    noise = np.random.default_rng(0).normal(0, 0.01, pixels.shape)
    return work_area(np.clip(pixels + noise, 0, 1)), disk


@pytest.fixture
def make_area():
    return work_area
