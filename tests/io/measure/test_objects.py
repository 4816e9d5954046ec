"""Tables of objects against regionprops of scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, perimeter, regionprops

from helpers.export_stores import LEGEND, image, make_store, truth
from helpers.label_stores import FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.measure.objects import measure_objects, object_columns
from napari_uhrseg.io.measure.perimeter import PerimeterCounter
from napari_uhrseg.io.vectorize.label_strips import track_objects
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import Roi

SMALL = VectorLimits(band_bytes=1, strip_pixels=1)  # strips of 16 rows


def table_of(store, *arguments):
    """Return all rows, sorted by class and centroid."""
    found = [
        columns for columns in measure_objects(store, *arguments)
        if not isinstance(columns, float)
    ]  # fmt: skip
    joined = {
        name: np.concatenate([part[name] for part in found])
        for name in object_columns(store, *arguments[:1])
    }
    order = np.lexsort((joined["column"], joined["row"], joined["class_id"]))
    return {name: values[order] for name, values in joined.items()}


def expected(labels, intensity=None):
    found = [
        (class_id, region.centroid[0], region.centroid[1], region)
        for class_id in np.unique(labels[labels > 0]).tolist()
        for region in regionprops(
            label(labels == class_id, connectivity=1), intensity_image=intensity
        )
    ]
    return sorted(found, key=lambda row: row[:3])


def store_of(path, labels, confidence=None, **about):
    store = LabelStore.create(path, FakeImage(labels.shape, **about), LEGEND)
    store.prediction[0][:] = labels
    if confidence is not None:
        store.confidence[0][:] = confidence
    return store


@pytest.fixture
def blobs():
    """Round objects with holes, and objects that touch at corners only."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:90, :70]
    labels = ((np.sin(x / 5) + np.cos(y / 6)) > 0.3).astype(np.uint8)
    labels[20:50] *= rng.integers(0, 3, (30, 70), np.uint8)
    return labels


@pytest.mark.parametrize("limits", [VectorLimits(), SMALL])
def test_values_equal_those_of_regionprops(tmp_path, blobs, limits):
    rng = np.random.default_rng(1)
    confidence = rng.integers(1, 256, blobs.shape, np.uint8)
    picture = rng.integers(0, 60_000, (*blobs.shape, 3)).astype(np.uint16)
    with store_of(
        tmp_path / "s.zarr", blobs, confidence, pixel_size=(0.5, 0.5)
    ) as store:
        opened = image_from_array(picture, name="picture", axes="yxc")
        found = table_of(store, opened, limits)
    regions = [row[-1] for row in expected(blobs, picture)]
    assert len(regions) == len(found["class"]) > 100
    assert found["class"].tolist() == [LEGEND.classes[i - 1].name for i in
                                       found["class_id"]]  # fmt: skip
    np.testing.assert_array_equal(found["pixels"], [r.area for r in regions])
    np.testing.assert_allclose(found["area_um2"], [r.area / 4 for r in regions])
    length = np.array([r.perimeter for r in regions])
    np.testing.assert_allclose(found["perimeter_um"], length / 2, atol=1e-9)
    centroids = np.array([r.centroid for r in regions])
    np.testing.assert_allclose(found["row"], centroids[:, 0])
    np.testing.assert_allclose(found["column"], centroids[:, 1])
    np.testing.assert_allclose(found["x_um"], (centroids[:, 1] + 0.5) / 2)
    means = np.array([r.intensity_mean for r in regions])
    bands = [name for name in found if name.startswith("mean_")][1:]
    np.testing.assert_allclose(np.stack([found[b] for b in bands], 1), means)
    sure = [confidence[tuple(r.coords.T)].mean() for r in regions]
    np.testing.assert_allclose(found["mean_confidence"], (np.array(sure) - 1) / 254)
    has = length > 0
    round_ = 4 * np.pi * np.array([r.area for r in regions])[has] / length[has] ** 2
    np.testing.assert_allclose(found["circularity"][has], round_)
    assert np.isnan(found["circularity"][~has]).all()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 2))
    ),
    st.integers(1, 5),
)
def test_perimeters_do_not_depend_on_the_strips(labels, height):
    """Two pixels that share a corner may be joined by strips far below."""
    rows = [*labels, np.zeros_like(labels[0])]
    cut = [
        (Roi(y, 0, len(part := labels[y : y + height]), labels.shape[1]), part)
        for y in range(0, len(labels), height)
    ]
    cut.append((Roi(len(labels), 0, 1, labels.shape[1]), rows[-1][None]))
    counter, found = PerimeterCounter(), []
    for strip in track_objects(cut):
        below = rows[strip.roi.bottom] if strip.roi.bottom < len(rows) else rows[-1]
        lengths = counter.add(strip, below, np.ones(strip.roi.height))
        found += np.delete(lengths, strip.open).tolist()
    wanted = [perimeter(r.image, 4) for *_, r in expected(labels)]
    np.testing.assert_allclose(sorted(found), sorted(wanted), atol=1e-9)


def test_corrections_and_merged_classes_are_measured(tmp_path):
    with make_store(tmp_path / "s.zarr", image(32632)) as store:
        found = table_of(store)
        labels = truth(store)
    regions = [row[-1] for row in expected(labels)]
    np.testing.assert_array_equal(found["pixels"], [r.area for r in regions])
    np.testing.assert_allclose(
        found["perimeter_m"], [r.perimeter / 2 for r in regions], atol=1e-9
    )
    np.testing.assert_allclose(found["area_m2"], found["pixels"] * 0.25)
    centre = np.array([r.centroid for r in regions]) + 0.5
    np.testing.assert_allclose(found["x"], 500_000 + 0.5 * centre[:, 1])
    np.testing.assert_allclose(found["y"], 5_300_000 - 0.5 * centre[:, 0])
    assert set(found["class"]) == {"road", "lake"}


def test_pixels_without_a_size(tmp_path):
    labels = np.ones((4, 5), np.uint8)
    about = {"pixel_size": None, "unit": "pixel"}
    with store_of(tmp_path / "s.zarr", labels, **about) as store:
        found = table_of(store)
    assert list(found) == [
        "class_id", "class", "pixels", "perimeter_px", "column", "row", "circularity",
        "mean_confidence",
    ]  # fmt: skip
    assert found["pixels"].tolist() == [20]
    assert np.isnan(found["mean_confidence"]).all()  # painted by hand


def test_an_image_of_another_size_is_refused(tmp_path):
    with store_of(tmp_path / "s.zarr", np.ones((4, 5), np.uint8)) as store:
        other = image_from_array(np.zeros((9, 9), np.uint8), name="other")
        with pytest.raises(ExportError, match="other has 9 x 9 pixels"):
            list(measure_objects(store, other))
