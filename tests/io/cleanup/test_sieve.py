"""The streamed filters, against GDAL and scikit-image on whole images."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import sieve
from skimage.filters.rank import majority
from skimage.morphology import remove_small_holes, remove_small_objects

from napari_uhrseg.io.cleanup.majority import majority_strips
from napari_uhrseg.io.cleanup.sieve import sieve_strips
from napari_uhrseg.types import Labels, Roi

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 20))
PICTURES = st.integers(1, 4).flatmap(
    lambda most: arrays(np.uint8, SHAPES, elements=st.integers(0, most))
)
HEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def strips_of(picture: Labels, heights: list[int]) -> Iterator[tuple[Roi, Labels]]:
    y, number = 0, 0
    while y < len(picture):
        rows = picture[y : y + heights[number % len(heights)]]
        yield Roi(y, 0, *rows.shape), rows
        y, number = y + len(rows), number + 1


def sieved(picture, objects, holes, heights):
    limits = np.full(256, float(objects))
    limits[0] = holes
    with TemporaryDirectory() as folder:
        found = [
            step
            for step in sieve_strips(
                lambda: strips_of(picture, heights), limits, len(picture), Path(folder)
            )
            if not isinstance(step, float)
        ]
    rows = [roi.y for roi, _ in found]
    assert rows == [roi.y for roi, _ in strips_of(picture, heights)]
    return np.concatenate([labels for _, labels in found])


@settings(max_examples=150, deadline=None)
@given(PICTURES, st.integers(1, 30), HEIGHTS)
def test_sieve_equals_that_of_gdal(picture, size, heights):
    assume(size < picture.size)  # GDAL's condition
    np.testing.assert_array_equal(
        sieved(picture, size, size, heights), sieve(picture, size)
    )


@settings(max_examples=60, deadline=None)
@given(arrays(bool, SHAPES), st.integers(1, 30), HEIGHTS)
def test_small_objects_and_holes_equal_those_of_skimage(picture, size, heights):
    labels = picture.astype(np.uint8)
    # a picture without background has nothing that an object could become
    if not picture.all():
        np.testing.assert_array_equal(
            sieved(labels, size, 0, heights) > 0,
            remove_small_objects(picture, max_size=size - 1),
        )
    if picture.any():
        np.testing.assert_array_equal(
            sieved(labels, 0, size, heights) > 0,
            remove_small_holes(picture, max_size=size - 1),
        )


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(1, 6), HEIGHTS)
def test_majority_equals_that_of_skimage(picture, radius, heights):
    side = 2 * radius + 1
    found = list(majority_strips(strips_of(picture, heights), radius))
    assert [roi.y for roi, _ in found] == np.cumsum(
        [0, *(roi.height for roi, _ in found)]
    ).tolist()[:-1]
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in found]),
        majority(picture, np.ones((side, side), np.uint8)),
    )


@pytest.mark.parametrize("height", [1, 7, 300])
def test_object_across_strips_is_one_object(height):
    picture = np.zeros((200, 40), np.uint8)
    picture[5:195, 10] = 1  # 190 pixels, in a U with the next two
    picture[5:195, 30] = 1
    picture[195, 10:31] = 1
    picture[3, 3] = 2
    assert (sieved(picture, 401, 0, [height]) == (picture == 1)).all()
    assert not sieved(picture, 402, 0, [height]).any()


def test_noise_equals_gdal():
    picture = np.random.default_rng(0).integers(0, 3, (300, 300), np.uint8)
    for size in (2, 7, 40):
        np.testing.assert_array_equal(
            sieved(picture, size, size, [64]), sieve(picture, size)
        )
