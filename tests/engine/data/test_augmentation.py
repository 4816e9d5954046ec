"""Augmentation of samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.scenes import LEGEND, SPEC, scene
from napari_uhrseg.engine.data.augmentation import (
    AUGMENTATIONS,
    ColorJitter,
    PhotometricDistortion,
    Rotation,
    Scaling,
    find_augmentations,
    rotate,
    rotate_boxes,
)
from napari_uhrseg.engine.data.batches import batches, zoomed
from napari_uhrseg.engine.data.scenes import SceneDataset
from napari_uhrseg.engine.training.schedule import TrainSettings
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.registry import REGISTRY, build
from napari_uhrseg.types import Roi


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


def test_scaling_reads_more_or_less_of_the_scene_at_the_same_size():
    """Views and target show the same ground, at a factor of 0.5 to 2."""
    source = SceneDataset(LEGEND, (scene(),)).fitted(SPEC)
    rng = np.random.default_rng(0)
    factors = [Scaling.random(rng).zoom for _ in range(50)]
    assert 0.5 <= min(factors) < 0.7 < 1.5 < max(factors) <= 2
    for batch in batches(source, SPEC, 4, 0, range(4), (Scaling,)):
        assert batch.views["local"].shape[-2:] == batch.target.shape[-2:] == (32, 32)
        classes = (batch.views["local"][:, 0] * 255 / 60).round().long()
        # colours are mixed at class borders, labels are not
        assert float((classes == batch.target).float().mean()) > 0.6


def test_zoomed_window_keeps_its_centre_within_the_scene():
    one = SceneDataset(LEGEND, (scene(),)).fitted(SPEC).training[0]
    height, width = one.shape
    window = Roi(height // 2 - 16, width // 2 - 16, 32, 32)
    for zoom in (0.5, 2.0):
        other, found = zoomed(one, window, zoom)
        assert other.scale == one.scale * zoom
        y, x = (c * zoom for c in found.center)
        assert (y, x) == pytest.approx(window.center, abs=2)
    _, corner = zoomed(one, Roi(height - 32, 0, 32, 32), 2.0)
    assert corner == Roi(height // 2 - 32, 0, 32, 32)


def test_photometric_distortion_is_that_of_mmsegmentation():
    """Brightness is added, contrast multiplied; all values stay in the range."""
    spec = replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3)
    view = np.random.default_rng(1).random((3, 16, 16), np.float32)
    plain = PhotometricDistortion(0.1, 1.5, 1, 0, contrast_first=True)
    expected = ((view + 0.1).clip(0, 1) * 1.5).clip(0, 1)
    np.testing.assert_allclose(plain.view(view.copy(), spec), expected, rtol=1e-5)
    grey = PhotometricDistortion(0, 1, 0, 0, contrast_first=False)
    changed = grey.view(view.copy(), spec)
    np.testing.assert_allclose(changed, np.tile(view.max(0), (3, 1, 1)), rtol=1e-4)
    third = PhotometricDistortion(0, 1, 1, 1 / 3, contrast_first=False)
    turned = third.view(view.copy(), spec)
    np.testing.assert_allclose(turned, view[[2, 0, 1]], rtol=1e-3, atol=1e-4)
    missing = view.copy()
    missing[:, :4] = 0
    assert (plain.view(missing, spec)[:, :4] == 0).all()


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("plain", ("rotation", "color_jitter")),
        ("scpseg", ("rotation", "color_jitter")),
        ("sgnet", ("scaling", "rotation")),
        ("isdnet", ("photometric_distortion", "rotation")),
        ("glnet", ("rotation",)),
        ("ehsnet", ("rotation", "color_jitter")),
    ],
)
def test_augmentation_is_part_of_each_recipe(method, names):
    recipe = build(method, REGISTRY[method].small_arguments, LEGEND).recipe
    assert recipe.augmentations == names
    assert TrainSettings(method).recipe(recipe).augmentations == names
    chosen = TrainSettings(method, augmentations=("rotation",)).recipe(recipe)
    assert chosen.augmentations == ("rotation",)
    assert find_augmentations(names)
