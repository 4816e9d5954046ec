"""On the sample slide: no tissue is lost, and little else is run."""

import numpy as np
import pytest

from napari_uhrseg.engine.inference.background_mask import BackgroundMask
from napari_uhrseg.io.open import open_image
from napari_uhrseg.samples import data_dir, slide
from napari_uhrseg.types import Roi


@pytest.fixture(scope="module")
def background():
    found = BackgroundMask.of(open_image(data_dir() / "slide.tif"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def tissue():
    """Where the slide's own recipe puts tissue."""
    height, width = slide.SHAPE
    xs = np.arange(width, dtype=float)
    return np.concatenate(
        [
            slide.tissue_depth(np.arange(y, y + 512, dtype=float), xs) > 0
            for y in range(0, height, 512)
        ]
    )


@pytest.mark.parametrize("window", [256, 512])
def test_background_mask_keeps_windows_with_tissue(background, tissue, window):
    windows = [
        Roi(y, x, window, window)
        for y in range(0, slide.SHAPE[0], window)
        for x in range(0, slide.SHAPE[1], window)
    ]
    holds = np.array([tissue[w.slices].any() for w in windows])
    runs = np.array([not background.is_background(w) for w in windows])
    assert not (holds & ~runs).any()  # no tissue is lost
    assert runs.mean() <= holds.mean() + 0.05
    assert runs.mean() < 0.5


def test_background_mask_does_not_depend_on_order(background):
    other = BackgroundMask.of(open_image(data_dir() / "slide.tif"))
    noise = np.random.default_rng(0)
    rois = [
        Roi(int(y), int(x), 200, 200) for y, x in noise.integers(-100, 6200, (60, 2))
    ]
    asked = [background.is_background(r) for r in rois]
    assert asked == [other.is_background(r) for r in reversed(rois)][::-1]
    assert len(set(asked)) == 2


def test_background_mask_is_none_for_other_images():
    assert BackgroundMask.of(open_image(data_dir() / "scene.tif")) is None
