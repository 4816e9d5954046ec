"""Test the pixel classifier: its features, and their linear classifier."""

import numpy as np
import pytest
import torch
from skimage.feature import multiscale_basic_features

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.pixel_classifier import PixelClassifier, filter_maps


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PixelClassifier(3, encoder="test_efficientnet", window=64).eval()


@pytest.fixture
def view():
    return torch.rand(1, 3, 192, 192, generator=torch.manual_seed(1))


def test_logits_are_linear_in_the_features_of_each_pixel(model, view):
    generator = torch.manual_seed(2)
    features = model.weights().shape[1]
    model.set_statistics(
        torch.rand(features, generator=generator),
        torch.rand(features, generator=generator) + 0.5,
    )
    at = torch.tensor([[0, 0], [63, 63], [17, 40]])
    with torch.inference_mode():
        found = model.gather(model.features(view), at + 64)
        mean, scale = model.statistics()
        expected = ((found - mean) / scale) @ model.weights().T + model.bias
        logits = model(Batch({"local": view}))["logits"]
    torch.testing.assert_close(
        logits[0, :, at[:, 0], at[:, 1]].T, expected, atol=1e-4, rtol=1e-4
    )


def test_first_filters_equal_those_of_scikit_image(view):
    maps = list(filter_maps(view))[:2]
    pixels = view[0].permute(1, 2, 0).numpy()
    for found, sigma in zip(maps, (1, 2), strict=True):
        wanted = multiscale_basic_features(
            pixels, edges=False, texture=False, sigma_min=sigma, sigma_max=sigma,
            num_sigma=1, channel_axis=-1,
        )  # fmt: skip
        first = 3 if sigma == 1 else 0
        smooth = found[0, first : first + 3].permute(1, 2, 0).numpy()
        inner = slice(16, -16)
        np.testing.assert_allclose(
            smooth[inner, inner], wanted[inner, inner], atol=5e-3
        )
    torch.testing.assert_close(maps[0][:, :3], view)


def test_filters_find_a_line_and_its_direction():
    image = torch.zeros(1, 1, 64, 64)
    image[..., 32] = 1
    smooth, gradient, larger, smaller = (
        next(iter(filter_maps(image)))[0, 1 + k] for k in range(4)
    )
    assert smooth[10, 32] > smooth[10, 28]
    assert gradient[10, 32] < gradient[10, 31]
    assert abs(float(larger[10, 32])) < 1e-3  # along the line
    assert smaller[10, 32] < -0.1  # across it


def test_encoder_is_frozen_and_keeps_its_statistics(model, view):
    model.train()
    assert not any(p.requires_grad for p in model.encoder.parameters())
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    model(Batch({"local": view}))
    after = model.encoder.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_impossible_window_is_refused():
    with pytest.raises(CheckpointError, match="multiple of 32") as error:
        PixelClassifier(2, window=50)
    assert "64" in error.value.hint


def test_encoder_without_fine_maps_is_refused():
    with pytest.raises(CheckpointError, match="no maps with the strides"):
        PixelClassifier(2, encoder="convnext_atto")
