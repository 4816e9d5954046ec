"""Tests of the offer to open the labels of an image, and of their last run."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Labels

from helpers.label_stores import RUN
from napari_uhrseg.io.labels.existing_labels import existing_labels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import file_hash
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.image.labels_offer import LabelsOffer
from napari_uhrseg.ui.segment.restore_run import settings_of
from napari_uhrseg.ui.segment.worker import remember_checkpoint
from napari_uhrseg.ui.workers.worker import Workers

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "a.tif"
    data = np.random.default_rng(0).integers(0, 255, (300, 200, 3)).astype(np.uint8)
    tifffile.imwrite(path, data, tile=(128, 128), photometric="rgb")
    return path


@pytest.fixture
def offer(qtbot):
    workers = Workers()
    offer = LabelsOffer(workers)
    qtbot.addWidget(offer)
    yield offer
    workers.close()


def make_labels(path, image, seconds=0.0, runs=()):
    """Write labels whose last change was this long ago."""
    with LabelStore.create(path, image, LEGEND) as store:
        for run in runs:
            store.run_ledger.start_run(run)
    for file in (path, *path.rglob("*")):
        stat = file.stat()
        os.utime(file, (stat.st_atime - seconds, stat.st_mtime - seconds))
    return path


class View:
    """Stand-in for displayed labels: their image and store."""

    def __init__(self, image, store):
        self.image, self.store = image, store


def test_existing_labels_are_those_of_the_image_latest_first(tmp_path, scene):
    image = open_image(scene)
    old = make_labels(tmp_path / "old.zarr", image, 9000)
    new = make_labels(tmp_path / "new.zarr", image, 30)
    other = tmp_path / "b.tif"
    tifffile.imwrite(other, np.ones((300, 200, 3), np.uint8), photometric="rgb")
    foreign = make_labels(tmp_path / "foreign.zarr", open_image(other))
    damaged = tmp_path / "damaged.zarr"
    damaged.mkdir()
    (damaged / "zarr.json").write_text("{}")
    paths = [old, foreign, damaged, tmp_path / "missing.zarr", new, old]
    found = existing_labels(image, paths)
    assert [x.path for x in found] == [new, old]
    assert 8900 < (found[0].changed - found[1].changed).total_seconds() < 9000


def test_labels_beside_the_image_are_offered(tmp_path, scene, offer, qtbot):
    image = open_image(scene)
    path = make_labels(tmp_path / "a_labels.zarr", image)
    offer.set_image(image)
    qtbot.waitUntil(lambda: not offer.isHidden())
    assert offer.text.text().startswith(
        "Labels of this image were found: a_labels.zarr, 20"
    )
    assert offer.choice.isHidden()
    with qtbot.waitSignal(offer.wanted) as emitted:
        offer.open.click()
    assert emitted.args == [path]


def test_labels_opened_elsewhere_before_are_offered_too(
    tmp_path, scene, offer, qtbot
):  # fmt: skip
    image = open_image(scene)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    far = make_labels(folder / "mine.zarr", image)
    make_labels(tmp_path / "a_labels_2.zarr", image, 500)
    with LabelStore.open(far) as store:
        offer.set_view(View(image, store))
    offer.set_view(None)
    offer.set_image(image)
    qtbot.waitUntil(lambda: not offer.isHidden())
    names = [offer.choice.itemText(i) for i in range(offer.choice.count())]
    assert [name.partition(",")[0] for name in names] == [
        "mine.zarr", "a_labels_2.zarr"
    ]  # fmt: skip
    offer.choice.setCurrentIndex(1)
    with qtbot.waitSignal(offer.wanted) as emitted:
        offer.open.click()
    assert emitted.args == [tmp_path / "a_labels_2.zarr"]


def test_labels_are_opened_at_once_if_the_user_chose_so(
    tmp_path, scene, offer, qtbot
):  # fmt: skip
    image = open_image(scene)
    path = make_labels(tmp_path / "a_labels.zarr", image)
    offer.always.click()
    with qtbot.waitSignal(offer.wanted) as emitted:
        offer.set_image(image)
    assert emitted.args == [path]
    later = LabelsOffer(Workers())
    qtbot.addWidget(later)
    assert later.always.isChecked()


def test_nothing_is_offered_without_labels_or_while_they_are_shown(
    tmp_path, scene, offer, qtbot
):  # fmt: skip
    image = open_image(scene)
    path = make_labels(tmp_path / "mine.zarr", image)
    with LabelStore.open(path) as store:
        offer.set_view(View(image, store))
        offer.set_image(image)
        qtbot.wait(50)
        assert offer.isHidden()


def run_of(image, checkpoint, **changes):
    """Return a run of a checkpoint with the settings that a plan chooses."""
    spec = read_card(checkpoint).spec
    usual = replace(
        RUN, image_fingerprint=image.fingerprint, bands=(0, 1, 2), scale=1.0,
        value_range=(0.0, 255.0), overlap=spec.overlap, precision="fp32",
        checkpoint_hash=file_hash(checkpoint), checkpoint=read_card(checkpoint).name,
        model=read_card(checkpoint).model,
    )  # fmt: skip
    return replace(usual, **changes)


def test_settings_of_a_run_are_automatic_where_the_plan_chooses_them(
    scene, small_checkpoint
):  # fmt: skip
    image, card = open_image(scene), read_card(small_checkpoint)
    found = settings_of(run_of(image, small_checkpoint), card, image)
    for name in ("bands", "value_range", "scale", "overlap"):
        assert found[name] is None
    chosen = run_of(
        image, small_checkpoint, bands=(2, 1, 0), value_range=(5.0, 99.0), scale=2.0
    )
    found = settings_of(chosen, card, image)
    assert found["bands"] == (2, 1, 0)
    assert found["value_range"] == (5.0, 99.0)
    assert found["scale"] == 2.0


@pytest.mark.gui
@pytest.mark.slow
def test_reopened_image_gets_labels_checkpoint_and_settings_back(
    viewer, panel, qtbot, tmp_path, scene, small_checkpoint
):
    image = open_image(scene)
    run = run_of(image, small_checkpoint, value_range=(5.0, 99.0), overlap=16)
    make_labels(tmp_path / "a_labels.zarr", image, runs=[run])
    remember_checkpoint(run.checkpoint_hash, small_checkpoint)
    panel.image.open_paths([scene])
    offer = panel.image.found_labels
    qtbot.waitUntil(offer.isVisible)
    offer.open.click()
    qtbot.waitUntil(lambda: any(isinstance(x, Labels) for x in viewer.layers))
    assert offer.isHidden()
    form = panel.segment.form
    qtbot.waitUntil(lambda: form.model.path == small_checkpoint)
    qtbot.waitUntil(lambda: form.more.values()["value_range"] == (5.0, 99.0))
    assert form.overlap.values() == {"overlap": 16}
    assert [c.name for c in panel.segment.view.classes] == ["road", "lake"]
    assert panel.segment.output.path == tmp_path / "a_labels.zarr"


def test_chosen_file_with_the_checkpoint_of_the_run_stays(
    panel, qtbot, tmp_path, scene, small_checkpoint
):
    chosen = Path(shutil.copy(small_checkpoint, tmp_path / "chosen.safetensors"))
    image = open_image(scene)
    run = run_of(image, small_checkpoint, value_range=(5.0, 99.0))
    labels = make_labels(tmp_path / "a_labels.zarr", image, runs=[run])
    remember_checkpoint(run.checkpoint_hash, small_checkpoint)
    form = panel.segment.form
    form.model.use(chosen)
    qtbot.waitUntil(lambda: form.model.path == chosen)
    panel.labels.open(labels)
    qtbot.waitUntil(lambda: form.more.values()["value_range"] == (5.0, 99.0))
    assert form.model.path == chosen
