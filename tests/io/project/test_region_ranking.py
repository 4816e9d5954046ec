"""Ranking of the uncertain regions of several label stores."""

import numpy as np
import pytest

from helpers.label_stores import LEGEND, FakeImage
from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.project.region_ranking import rank_uncertain_regions


@pytest.fixture
def labels(tmp_path):
    """Two label stores with one uncertain region each, and a path without labels."""
    for name, confidence in (("a.zarr", 100), ("b.zarr", 50)):
        image = FakeImage(shape=(60, 120))
        with LabelStore.create(tmp_path / name, image, LEGEND) as store:
            values = np.full(store.shape, 200, np.uint8)
            values[:32, :32] = confidence
            store.confidence[0][:] = values
    return {n: tmp_path / f"{n[0]}.zarr" for n in ("a.tif", "b.tif", "c.tif")}


def ranked(labels, seen=None):
    paths = {image: lambda path=path: path for image, path in labels.items()}
    found, failed = rank_uncertain_regions(paths, seen)
    assert not failed
    return found


def test_regions_of_all_images_are_sorted_by_their_scores(labels):
    first, second = ranked(labels)
    assert (first.image, second.image) == ("b.tif", "a.tif")
    assert first.labels == labels["b.tif"]
    assert first.region.score == pytest.approx(1 - 50 / 255)
    assert second.region.score == pytest.approx(1 - 100 / 255)
    assert (first.region.roi.height, first.region.roi.width) == (32, 32)


def test_visited_regions_are_left_out(labels):
    first, second = ranked(labels)
    assert ranked(labels, {first.labels: [first.region.roi]}) == (second,)


def test_labels_that_cannot_be_read_do_not_stop_the_others(labels):
    def outside():
        raise ProjectError("It is outside.", "")

    paths = {"x.tif": outside, "b.tif": lambda: labels["b.tif"]}
    found, failed = rank_uncertain_regions(paths)
    assert [each.image for each in found] == ["b.tif"]
    assert [*failed] == ["x.tif"]
    assert "outside" in str(failed["x.tif"])
