from collections.abc import Callable

import numpy as np
import psutil
import pytest

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image


@pytest.fixture
def picture() -> Callable[..., Image]:
    def make(height: int, width: int, seed: int = 0, **kwargs: object) -> Image:
        noise = np.random.default_rng(seed)
        coarse = noise.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3))
        data = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        data = (data + noise.integers(0, 40, data.shape)).clip(0, 255).astype(np.uint8)
        return image_from_array(data, name="picture", rgb=True, **kwargs)

    return make


@pytest.fixture
def plenty_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the machine 32 GB to spare: plans keep to the free memory."""
    memory = psutil.virtual_memory()._replace(available=32 * 1024**3)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
