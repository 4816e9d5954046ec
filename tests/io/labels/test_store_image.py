"""Tests of the path from a store to its image."""

import numpy as np
import pytest
import tifffile

from helpers.label_stores import LEGEND
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image


@pytest.fixture
def made(tmp_path, monkeypatch):
    """``work/scene.tif`` and ``work/labels.zarr``, made by names typed in ``work``."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    data = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    tifffile.imwrite("scene.tif", data, photometric="rgb")
    LabelStore.create("labels.zarr", open_image("scene.tif"), LEGEND).close()
    monkeypatch.chdir(tmp_path)
    return work


def found(store_path):
    with LabelStore.open(store_path) as store:
        assert open_image(store.image_path).fingerprint == store.info.fingerprint
        return store.image_path


def test_image_path_is_found_from_another_working_folder(made):
    assert found("work/labels.zarr") == made / "scene.tif"


def test_image_path_is_found_beside_moved_store(made, tmp_path):
    made.rename(tmp_path / "moved")
    assert found("moved/labels.zarr") == tmp_path / "moved" / "scene.tif"


def test_image_path_of_missing_image_is_recorded_path(made):
    (made / "scene.tif").unlink()
    with LabelStore.open("work/labels.zarr") as store:
        assert store.image_path == made / "scene.tif"
