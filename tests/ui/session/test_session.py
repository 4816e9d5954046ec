"""Tests of the last session: its file, and what comes back at the next start."""

import io
import json

import fsspec
import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QMessageBox

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.image.view_memory import remember_view, restore_view
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.session.session_file import (
    OpenedImage,
    Session,
    read_session,
    session_path,
    write_session,
)

LEGEND = Legend((LabelClass(1, "road", "#ff8000"),))


@pytest.fixture
def scene(tmp_path):
    """An image file with labels beside it."""
    path = tmp_path / "scene.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb")
    LabelStore.create(tmp_path / "mine.zarr", open_image(path), LEGEND).close()
    return path


def test_file_brings_session_back(tmp_path):
    path = tmp_path / "state" / "session.json"
    assert read_session(path) is None
    session = Session(
        (OpenedImage(tmp_path / "a.tif", 1, tmp_path / "a.zarr"),),
        0, "Train", {"train": {"length": 100}},
    )  # fmt: skip
    write_session(path, session)
    assert read_session(path) == session


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2}', "[" * 100_000, '{"version": 1' + " " * 10**6],
)
def test_damaged_file_is_refused(tmp_path, text):
    path = tmp_path / "session.json"
    path.write_text(text)
    with pytest.raises(OpenError, match="last session cannot be restored"):
        read_session(path)


def test_entries_of_another_kind_are_left_out(tmp_path):
    path = tmp_path / "session.json"
    images = [
        {"path": "/good.tif", "series": "x", "labels": ["/a"]},
        {"path": "relative.tif"}, {"path": "https://host/a.tif"}, {"path": 3},
        {"path": "/a" * 5000}, {"path": "/nul\0.tif"}, "/text.tif", None,
    ]  # fmt: skip
    document = {"version": 1, "images": images, "shown": "1", "step": 5, "settings": []}
    path.write_text(json.dumps(document))
    session = read_session(path)
    assert [str(image.path) for image in session.images] == ["/good.tif"]
    assert session.images[0].series == 0
    assert session.images[0].labels is None
    assert (session.shown, session.step, session.settings) == (0, "", {})


@pytest.mark.slow
def test_session_is_offered_and_restored(scene, request, qtbot):
    labels = scene.with_name("mine.zarr")
    gone = scene.with_name("gone.tif")
    entries = (OpenedImage(scene, 0, labels), OpenedImage(gone))
    train = {"length": "custom", "steps": 7, "unknown": 1, "batch_size": "x"}
    write_session(session_path(), Session(entries, 0, "Correct", {"train": train}))
    panel = request.getfixturevalue("panel")
    offer = panel.session.offer
    qtbot.waitUntil(lambda: not offer.isHidden(), timeout=20_000)
    assert offer.text.text() == "Last session: scene.tif, gone.tif."
    offer.restore.click()
    qtbot.waitUntil(lambda: panel.tabs.shown == "Correct", timeout=30_000)
    assert panel.image.image.path == scene
    assert panel.segment.view.store.path == labels
    assert panel.finetune.form.custom.values()["steps"] == 7
    assert offer.isHidden()
    said = [n.message for n in notification_manager.records]
    assert "Not restored: gone.tif (not found)." in said
    panel.show_step("Results")
    panel.stop()
    session = read_session(session_path())
    assert session.step == "Results"
    assert session.images == (OpenedImage(scene, 0, labels),)


def test_session_is_always_restored_if_wanted(scene, request, qtbot):
    write_session(session_path(), Session((OpenedImage(scene),), 0, "Image"))
    panel = request.getfixturevalue("panel")
    panel.session.offer.always.setChecked(True)
    panel.session.find()
    qtbot.waitUntil(lambda: panel.image.image is not None, timeout=30_000)
    assert panel.image.image.path == scene


def test_view_of_image_comes_back_unless_user_moved(viewer, scene):
    (layer,) = add_image(viewer, open_image(scene))
    camera = viewer.scene.camera
    whole = camera.center, camera.zoom
    remember_view(viewer, layer)
    assert not restore_view(viewer, layer)  # the view of the whole image
    camera.center, camera.zoom = (0, 120, 80), 30
    remember_view(viewer, layer)
    camera.center, camera.zoom = whole
    assert restore_view(viewer, layer)
    assert camera.center[-2:] == pytest.approx((120, 80))
    assert camera.zoom == pytest.approx(30)
    camera.center = (0, 20, 20)
    assert not restore_view(viewer, layer)
    assert camera.center[-2:] == pytest.approx((20, 20))


def write_at_url(name: str) -> str:
    """Write an image to a file system in memory; return its URL."""
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    data = io.BytesIO()
    tifffile.imwrite(data, pixels, photometric="rgb", tile=(64, 64))
    url = f"memory://session/{name}"
    with fsspec.open(url, "wb") as file:
        file.write(data.getvalue())
    return url


def test_urls_are_stored_without_credentials(tmp_path):
    path = tmp_path / "session.json"
    urls = "https://host/a.zarr", "s3://bucket/a_labels.zarr"
    session = Session((OpenedImage(urls[0], 2, urls[1]), OpenedImage(tmp_path / "b")))
    write_session(path, session)
    assert read_session(path) == session
    assert session.images[0].name == "a.zarr"
    assert session.images[0].urls == urls
    images = [
        {"url": url} for url in ("file:///etc/x", "local://a", "a", 3, "x" * 5000)
    ]
    path.write_text(json.dumps({"version": 1, "images": images}))
    assert read_session(path).images == ()


@pytest.mark.parametrize("agrees", [True, False])
def test_images_at_urls_are_opened_only_if_the_user_agrees(
    agrees, request, qtbot, monkeypatch
):
    url = write_at_url("scene.tif")
    write_session(session_path(), Session((OpenedImage(url),), 0, "Image"))
    asked = []

    def question(parent, title, text):
        asked.append(text)
        buttons = QMessageBox.StandardButton
        return buttons.Yes if agrees else buttons.No

    monkeypatch.setattr(QMessageBox, "question", question)
    panel = request.getfixturevalue("panel")
    offer = panel.session.offer
    qtbot.waitUntil(lambda: not offer.isHidden(), timeout=20_000)
    assert not asked
    offer.restore.click()
    assert url in asked[0]
    if agrees:
        qtbot.waitUntil(lambda: panel.image.image is not None, timeout=30_000)
        assert str(panel.image.image.path) == url
        panel.stop()
        assert read_session(session_path()).images == (OpenedImage(url),)
    else:
        said = notification_manager.records
        text = "Not restored: scene.tif (at a URL)."
        qtbot.waitUntil(lambda: text in [n.message for n in said], timeout=30_000)
        assert panel.image.image is None


def test_settings_of_results_come_back(scene, request, qtbot):
    settings = {
        "areas": {"areas_of": "view"},
        "export": {
            "format": "geojson", "simplify": 1.5, "min_object": "50 um2", "unknown": 3,
        },
    }  # fmt: skip
    entries = (OpenedImage(scene),)
    write_session(session_path(), Session(entries, 0, "Results", settings))
    panel = request.getfixturevalue("panel")
    qtbot.waitUntil(lambda: not panel.session.offer.isHidden(), timeout=20_000)
    panel.session.offer.restore.click()
    qtbot.waitUntil(lambda: panel.tabs.shown == "Results", timeout=30_000)
    qtbot.waitUntil(lambda: panel.export.format.count() > 0, timeout=30_000)
    assert panel.export.format_name == "geojson"
    assert panel.export.simplify.value() == 1.5
    assert panel.areas.where.currentText() == "Current view"
    panel.stop()
    found = read_session(session_path()).settings
    assert found["areas"] == settings["areas"]
    assert found["export"]["simplify"] == 1.5
    assert found["export"]["min_object"] == "50 um2"
