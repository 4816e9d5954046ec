"""Sampling of windows."""

import numpy as np
import pytest

from helpers.scenes import LEGEND, SPEC, ArrayTarget, scene
from napari_uhrseg.engine.data.scenes import Scene, SceneDataset
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.from_array import image_from_array


def test_sample_draws_again_where_a_window_has_no_label():
    some = scene(0, (64, 640))
    some.target.array[:, 40:] = 255  # type: ignore[attr-defined]
    source = SceneDataset(LEGEND, (some,)).fitted(SPEC)
    samples = [source.sample(np.random.default_rng(i), 32).window for i in range(40)]
    assert sum(w.x < 40 for w in samples) > 15  # one in fourteen by chance alone


def test_class_balance_samples_rare_classes_as_often_as_common_ones():
    labels = np.zeros((400, 400), np.uint8)
    labels[200:216, 300:316] = 1
    image = image_from_array(np.zeros((400, 400, 3), np.uint8), name="r", rgb=True)
    rare = Scene("rare", image, ArrayTarget(labels))
    plain = SceneDataset(LEGEND, (rare,))
    balanced = plain.with_class_balance(1.0).fitted(SPEC)

    def share(source):
        samples = [source.sample(np.random.default_rng(i), 32) for i in range(60)]
        return np.mean([(d.scene.labels(d.window) == 1).any() for d in samples])

    assert share(plain) < 0.1
    assert 0.35 < share(balanced) < 0.65
    with pytest.raises(TrainingError, match="share of 2"):
        plain.with_class_balance(2)
