"""Tests of downsampling against the rule written out for each 2 x 2 pixels."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=9)
FEW = arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 2, 3, 254, 255]))
ANY = arrays(np.uint8, SHAPES)


def _by_pixel(data, rule):
    height, width = data.shape
    out = np.zeros((-(-height // 2), -(-width // 2)), np.uint8)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            children = data[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
            children = [c for c in children if c]
            out[y, x] = rule(children) if children else 0
    return out


def _majority(children):
    counts = Counter(children)
    most = max(counts.values())
    return min(c for c, n in counts.items() if n == most)


def _mean(children):
    return int(sum(children) / len(children) + 0.5)


@pytest.mark.slow
@given(FEW | ANY)
def test_coarser_labels_are_majority_of_labelled_pixels(data):
    before = data.copy()
    np.testing.assert_array_equal(coarser_labels(data), _by_pixel(data, _majority))
    np.testing.assert_array_equal(data, before)


@pytest.mark.slow
@given(FEW | ANY)
def test_coarser_confidence_is_mean_of_nonzero_pixels(data):
    out = coarser_confidence(data)
    np.testing.assert_array_equal(out, _by_pixel(data, _mean))
    np.testing.assert_array_equal(out > 0, coarser_labels(data) > 0)


def test_coarser_labels_of_every_combination_of_four_pixels():
    """Every tuple of five values, so that no branch of the rule is missed."""
    values = np.array([0, 1, 2, 200, 255], np.uint8)
    tuples = np.stack(np.meshgrid(*[values] * 4), -1).reshape(-1, 2, 2)
    data = tuples.transpose(1, 0, 2).reshape(2, -1)
    np.testing.assert_array_equal(coarser_labels(data), _by_pixel(data, _majority))
    np.testing.assert_array_equal(coarser_confidence(data), _by_pixel(data, _mean))


def test_coarser_labels_of_areas_with_few_mixed_squares():
    rng = np.random.default_rng(0)
    data = np.kron(rng.integers(0, 4, (4, 5)), np.ones((7, 9))).astype(np.uint8)
    data[rng.integers(0, 28, 9), rng.integers(0, 45, 9)] = 255
    np.testing.assert_array_equal(coarser_labels(data), _by_pixel(data, _majority))


@pytest.mark.parametrize("coarser", [coarser_labels, coarser_confidence])
def test_large_arrays_have_the_coarser_pixels_of_their_parts(coarser):
    random = np.random.default_rng(0)
    data = random.integers(0, 4, (1501, 1003), np.uint8)
    parts = [coarser(data[row : row + 250]) for row in range(0, 1501, 250)]
    np.testing.assert_array_equal(coarser(data), np.concatenate(parts))
