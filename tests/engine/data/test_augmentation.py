"""Augmentation of samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.scenes import LEGEND, SPEC, scene
from napari_uhrseg.engine.data.augmentation import (
    AUGMENTATIONS,
    ColorJitter,
    Rotation,
    find_augmentations,
    rotate,
    rotate_boxes,
)
from napari_uhrseg.engine.data.batches import batches
from napari_uhrseg.engine.data.scenes import SceneDataset
from napari_uhrseg.errors import TrainingError


def test_rotation_turns_views_and_target_together():
    source = SceneDataset(LEGEND, (scene(),)).fitted(SPEC)
    for batch in batches(source, SPEC, 4, 0, range(8), (Rotation,)):
        classes = (batch.views["local"][:, 0] * 255 / 60).round().long()
        assert torch.equal(classes, batch.target)
        centre = batch.views["surrounding"][..., 16:48, 16:48]
        assert torch.equal(centre, batch.views["local"])
        boxes = torch.tensor([[16.0, 16, 48, 48]] * 4)
        assert torch.equal(batch.boxes["surrounding"], boxes)


def test_find_augmentations_refuses_unknown_names():
    assert find_augmentations(["rotation", "color_jitter"]) == (Rotation, ColorJitter)
    assert find_augmentations(list(AUGMENTATIONS)) == tuple(AUGMENTATIONS.values())
    with pytest.raises(TrainingError, match="no augmentation named sharpen"):
        find_augmentations(["rotation", "sharpen"])


def test_augmentations_decide_the_samples():
    source = SceneDataset(LEGEND, (scene(),)).fitted(SPEC)
    plain, rotated = (
        next(batches(source, SPEC, 4, 0, range(1), chosen)).views["local"]
        for chosen in ((), (Rotation,))
    )
    assert not torch.equal(plain, rotated)
    values = [views.flatten(1).sort(1).values for views in (plain, rotated)]
    assert torch.equal(*values)


def test_rotate_boxes_follows_rotate():
    view = np.zeros((20, 20))
    view[2:5, 11:18] = 1
    for turns in range(4):
        for flip in (False, True):
            box = rotate_boxes(torch.tensor([[2, 11, 5, 18]]), 20, turns, flip)[0]
            y0, x0, y1, x1 = box.tolist()
            after = rotate(view, turns, flip)
            assert after[y0:y1, x0:x1].all()
            assert after.sum() == (y1 - y0) * (x1 - x0)


def test_color_jitter_works_on_image_values_and_keeps_missing_pixels():
    spec = replace(SPEC, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    mean, std = (np.array(v)[:, None, None] for v in (spec.mean, spec.std))
    values = np.random.default_rng(0).random((3, 8, 8))
    view = ((values - mean) / std).astype(np.float32)
    view[:, 2] = 0
    jitter = ColorJitter(brightness=1.1, contrast=0.9, saturation=1.2)
    values[:, 2:3] = mean
    lit = values * 1.1
    lit = (lit - lit.mean()) * 0.9 + lit.mean()
    grey = lit.mean(0)
    expected = (grey + (lit - grey) * 1.2 - mean) / std
    expected[:, 2] = 0
    jitter.view(view, spec)
    np.testing.assert_allclose(view, expected, rtol=1e-4, atol=1e-4)
