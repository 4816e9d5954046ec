"""The list of a project's images: thumbnails, search, states, and what it opens."""

from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from filelock import FileLock
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QMessageBox

from helpers.message_boxes import answer_boxes
from helpers.small_project import LEGEND
from napari_uhrseg.io.corrections.delete_class import delete_class
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.io.project.project_file import ProjectFile
from napari_uhrseg.types import Legend, Roi, SegmentSettings
from napari_uhrseg.ui.panel import Panel
from napari_uhrseg.ui.project.panel import ProjectPanel
from napari_uhrseg.ui.project.runs import ProjectRun
from napari_uhrseg.ui.project.thumbnails import SIDE, thumbnail
from napari_uhrseg.ui.workers.worker import Workers


@pytest.fixture
def panel(qtbot, file):
    workers = Workers()
    made = ProjectPanel(workers)
    qtbot.addWidget(made)
    made.open(file.path)
    qtbot.waitUntil(lambda: made.list.count() == 3)
    yield made
    made.stop()
    workers.close()


def visible(panel) -> list[str]:
    items = (panel.list.item(row) for row in range(panel.list.count()))
    return [i.text().split("\n")[0] for i in items if not i.isHidden()]


def test_list_shows_thumbnails_and_problems(panel, qtbot):
    qtbot.waitUntil(lambda: "problem" in panel.list.item(2).text())
    assert "does not exist" in panel.list.item(2).toolTip()
    for row, channel in ((0, 0), (1, 2)):
        picture = panel.list.item(row).icon().pixmap(SIDE, SIDE).toImage()
        color = picture.pixelColor(picture.width() // 2, picture.height() // 2)
        rgb = color.red(), color.green(), color.blue()
        assert rgb[channel] == 200
        assert sum(rgb) == 200
    assert panel.list.without_thumbnail() == ["gone.tif"]


def test_search_limits_the_list_and_the_steps(panel, qtbot):
    opened = []
    panel.imageWanted.connect(lambda *paths: opened.append(paths))
    panel.search.setText("new blue")
    assert visible(panel) == ["blue.tif"]
    panel.step(1)
    panel.step(1)
    qtbot.waitUntil(lambda: len(opened) == 1)
    panel.search.setText("")
    assert visible(panel) == ["red.tif", "blue.tif", "gone.tif"]
    panel.step(-1)
    qtbot.waitUntil(lambda: len(opened) == 2)
    folder = panel.file.folder
    assert [p.name for p, _ in opened] == ["blue.tif", "red.tif"]
    assert opened[1][1] == folder / "labels/red.tif.labels.zarr"


def test_state_and_notes_are_written(panel, qtbot):
    panel.step(1)
    panel.state.setCurrentText("reviewed")
    panel.state.activated.emit(panel.state.currentIndex())
    qtbot.waitUntil(lambda: panel.file.read().images[0].state == "reviewed")
    panel.notes.clear()
    qtbot.keyClicks(panel.notes, "blurred")
    panel.notes.editingFinished.emit()
    qtbot.waitUntil(lambda: panel.file.read().images[0].notes == "blurred")
    qtbot.waitUntil(lambda: "reviewed" in panel.list.item(0).text())
    panel.search.setText("blurred")
    qtbot.waitUntil(lambda: visible(panel) == ["red.tif"])


def test_double_click_opens_image_once(panel, qtbot):
    opened = []
    panel.imageWanted.connect(lambda *paths: opened.append(paths))
    panel.show()
    entry = panel.list.visualItemRect(panel.list.item(0)).center()
    left = Qt.MouseButton.LeftButton
    qtbot.mouseClick(panel.list.viewport(), left, pos=entry)
    qtbot.mouseDClick(panel.list.viewport(), left, pos=entry)
    settle(qtbot)
    assert [path.name for path, _ in opened] == ["red.tif"]


def test_change_of_one_project_is_not_shown_in_another(panel, file, qtbot, tmp_path):
    other = ProjectFile(tmp_path / "other" / "o.uhrproject.json")
    other.create(Project((ProjectImage("only.tif", "only.zarr"),), LEGEND))
    new = tmp_path / "more.tif"
    tifffile.imwrite(new, np.zeros((8, 8), np.uint8))
    with FileLock(tmp_path / f".{file.path.name}.lock"):
        panel.add([new])  # this waits for the lock
        panel.open(other.path)
        qtbot.waitUntil(lambda: visible(panel) == ["only.tif"])
    settle(qtbot)
    assert len(file.read().images) == 4
    assert visible(panel) == ["only.tif"]


def settle(qtbot) -> None:
    """Wait until all workers have ended, and their callbacks have run."""
    assert QThreadPool.globalInstance().waitForDone(600_000)
    qtbot.wait(50)


def test_added_images_and_changes_of_others_are_shown(panel, qtbot):
    new = panel.file.folder / "more.tif"
    tifffile.imwrite(new, np.zeros((8, 8), np.uint8))
    panel.add([new])
    qtbot.waitUntil(lambda: panel.list.count() == 4)
    panel.file.update(lambda p: p.without("gone.tif").with_image("red.tif", notes="x"))
    panel.refresh()
    qtbot.waitUntil(lambda: visible(panel) == ["red.tif", "blue.tif", "more.tif"])
    assert "x" in panel.list.item(0).toolTip()


def test_classes_of_one_store_reach_the_project_and_the_others(panel, qtbot):
    folder = panel.file.folder
    image = open_image(folder / "blue.tif")
    other = folder / "labels/blue.tif.labels.zarr"
    LabelStore.create(other, image, LEGEND).close()
    with LabelStore.open(folder / "labels/red.tif.labels.zarr", write=True) as store:
        store.legend_editor.rename_class(2, "bright")
        store.legend_editor.merge_class(1, 2)
        panel.classes_changed(store)
        qtbot.waitUntil(lambda: panel.file.read().aliases == {1: 2})
        qtbot.waitUntil(lambda: _names(other) == ["dark", "bright"])
        assert panel.file.read().legend.named("bright").id == 2


def test_class_deleted_in_one_store_leaves_the_project_and_the_others(panel, qtbot):
    folder = panel.file.folder
    other = folder / "labels/blue.tif.labels.zarr"
    LabelStore.create(other, open_image(folder / "blue.tif"), LEGEND).close()
    with LabelStore.open(folder / "labels/red.tif.labels.zarr", write=True) as store:
        deque(delete_class(store, 2, into=1), maxlen=0)
        panel.class_deleted("light", "dark")
        panel.classes_changed(store)
        qtbot.waitUntil(lambda: _names(other) == ["dark"])
    assert [c.name for c in panel.file.read().legend] == ["dark"]
    assert panel.file.read().deleted == {"light": "dark"}


def test_corrections_change_the_state(panel, qtbot):
    folder = panel.file.folder
    panel.observe(folder / "elsewhere.zarr")
    panel.observe(folder / "labels/red.tif.labels.zarr")
    qtbot.waitUntil(lambda: panel.file.read().images[0].state == "corrected")
    qtbot.waitUntil(lambda: "corrected" in panel.list.item(0).text())


def _names(path: Path) -> list[str]:
    with LabelStore.open(path) as store:
        return [c.name for c in store.legend]


def test_outside_files_are_used_only_if_the_user_agrees(panel, qtbot, monkeypatch):
    panel.file.update(lambda p: p.with_images([ProjectImage("../x.tif", "x.zarr")]))
    asked = []
    answers = iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])

    def question(parent, title, text):
        asked.append(text)
        return next(answers)

    monkeypatch.setattr(QMessageBox, "question", question)
    panel.open(panel.file.path)
    qtbot.waitUntil(lambda: len(asked) == 1)
    assert "../x.tif" in asked[0]
    assert not panel.paths.allow_outside
    panel.open(panel.file.path)
    qtbot.waitUntil(lambda: len(asked) == 2)
    qtbot.waitUntil(lambda: panel.paths.allow_outside)


def test_thumbnail_of_a_large_image_without_levels_is_its_middle():
    from napari_uhrseg.io.image.from_array import image_from_array

    class Lazy:
        """Pixels that are counted when they are read."""

        shape, dtype, ndim, read = (9000, 9000), np.dtype(np.uint8), 2, 0

        def __getitem__(self, key):
            part = np.broadcast_to(np.uint8(7), self.shape)[key]
            self.read += part.size
            return np.array(part)

    pixels = Lazy()
    colors = thumbnail(image_from_array(pixels, name="large"))
    assert colors.shape == (SIDE, SIDE, 3)
    assert (colors == 7).all()
    assert pixels.read < 30e6


def choose_several(panel, *names: str) -> None:
    """Select entries of the list, as clicks with Ctrl do."""
    panel.list.clearSelection()
    for row in range(panel.list.count()):
        item = panel.list.item(row)
        item.setSelected(item.text().split("\n")[0] in names)


def test_button_names_the_number_of_chosen_images(panel):
    assert panel.segment_all.text() == "Segment all"
    panel.step(1)
    assert panel.segment_all.text() == "Segment all"  # one image is chosen to open it
    assert panel.fields.isEnabled()
    choose_several(panel, "red.tif", "blue.tif", "gone.tif")
    assert panel.segment_all.text() == "Segment chosen (3)"
    assert not panel.fields.isEnabled()  # they would change one image only
    panel.search.setText("tif e")
    assert panel.segment_all.text() == "Segment chosen (3)"
    panel.search.setText("red")
    assert panel.segment_all.text() == "Segment all"
    panel.search.setText("")
    assert panel.segment_all.text() == "Segment chosen (3)"
    panel.step(1)
    assert panel.segment_all.text() == "Segment all"
    assert panel.fields.isEnabled()


@pytest.mark.slow
def test_other_images_than_the_chosen_ones_are_not_segmented(
    panel, qtbot, small_checkpoint
):
    panel.set_checkpoint(small_checkpoint)
    choose_several(panel, "blue.tif", "gone.tif")
    busy = []
    panel.busyChanged.connect(busy.append)
    panel.segment_all.click()
    assert panel.progress.bar.format() == "Segmenting 2 images, %p %"
    qtbot.waitUntil(lambda: busy == [True, False])
    assert "gone.tif does not exist" in panel.status.text()
    states = [i.state for i in panel.file.read().images]
    assert states == ["new", "segmented", "new"]
    with LabelStore.open(panel.file.folder / "labels/red.tif.labels.zarr") as store:
        assert not store.runs


@pytest.mark.slow
def test_segment_all_continues_after_a_failure(panel, qtbot, small_checkpoint):
    panel.set_checkpoint(small_checkpoint)
    assert panel.segment_all.isEnabled()
    busy = []
    panel.busyChanged.connect(busy.append)
    panel.start()
    assert not panel.segment_all.isEnabled()
    qtbot.waitUntil(lambda: panel.segment_all.isEnabled())
    qtbot.waitUntil(lambda: busy == [True, False])
    assert "gone.tif does not exist" in panel.status.text()
    states = [i.state for i in panel.file.read().images]
    assert states == ["corrected", "segmented", "new"]
    qtbot.waitUntil(lambda: "segmented" in panel.list.item(1).text())


@pytest.mark.slow
@pytest.mark.parametrize("agrees", [True, False])
def test_labels_of_another_checkpoint_are_replaced_only_if_the_user_agrees(
    panel, qtbot, small_checkpoint, monkeypatch, agrees
):
    def segment_all():
        panel.start()
        qtbot.waitUntil(panel.segment_all.isEnabled)  # also after a replacing run
        settle(qtbot)

    panel.set_checkpoint(small_checkpoint)
    segment_all()
    asked = answer_boxes(monkeypatch, "Replace" if agrees else "Keep")
    segment_all()
    assert not asked
    panel.set_checkpoint(small_checkpoint.with_name("1.safetensors"))
    segment_all()
    assert asked == [
        "2 images were left out, because the labels were made with another checkpoint "
        "or other settings: red.tif, blue.tif."
    ]
    kept = "2 images kept the labels of other settings."
    assert (kept in panel.status.text()) == (not agrees)
    for name in ("red", "blue"):
        path = panel.file.folder / f"labels/{name}.tif.labels.zarr"
        with LabelStore.open(path) as store:
            assert store.runs[-1].checkpoint == f"number {int(agrees)}"
            assert store.coarsest_corrections().any() == (name == "red")


@pytest.mark.slow
def test_only_one_part_runs_at_a_time(file, viewer, qtbot):
    window = Panel(viewer)
    qtbot.addWidget(window)
    project, segment, training = window.project, window.segment, window.finetune
    project.busyChanged.emit(True)
    assert "Images of the project" in segment.bar.start.toolTip()
    assert "segmentation is running" in training.bar.start.toolTip()
    project.busyChanged.emit(False)
    qtbot.waitUntil(lambda: "Images of the project" not in segment.bar.start.toolTip())
    project.set_checkpoint(file.path)
    project.open(file.path)
    qtbot.waitUntil(project.segment_all.isEnabled)
    for part, why in ((segment, "segmentation"), (training, "training")):
        part.busyChanged.emit(True)
        assert not project.segment_all.isEnabled()
        assert f"A {why} is running" in project.segment_all.toolTip()
        part.busyChanged.emit(False)
        assert project.segment_all.isEnabled()
    window.stop()


def test_image_asked_for_last_is_opened(file, viewer, qtbot):
    window = Panel(viewer)
    qtbot.addWidget(window)
    names = ("red.tif", "blue.tif")
    for name in names:
        labels = file.folder / f"labels/{name}.labels.zarr"
        window.labels.open_image(file.folder / name, labels)
    qtbot.waitUntil(lambda: window.image.image is not None)
    settle(qtbot)
    assert [layer.name for layer in viewer.layers] == ["blue.tif"]
    window.stop()


@pytest.mark.slow
def test_run_keeps_deleted_classes_of_the_checkpoint_deleted(file, small_checkpoint):
    dark = Legend(LEGEND.classes[:1])
    file.update(lambda p: replace(p, legend=dark, deleted={"light": "dark"}))
    paths = ProjectPaths(file.folder)
    run = ProjectRun(file, paths, small_checkpoint, SegmentSettings())
    deque(run.events((), lambda: False), maxlen=0)
    assert file.read().legend == dark
    for name in ("red", "blue"):
        with LabelStore.open(file.folder / f"labels/{name}.tif.labels.zarr") as store:
            assert store.legend == dark
            assert (store.read_labels(Roi(0, 0, *store.shape)) == 1).all()


def test_panel_opens_images_of_the_list_with_their_labels(file, viewer, qtbot):
    window = Panel(viewer)
    qtbot.addWidget(window)
    window.project.open(file.path)
    qtbot.waitUntil(lambda: window.project.list.count() == 3)
    window.project.step(1)
    qtbot.waitUntil(lambda: window.segment.view is not None)
    folder = file.folder
    view = window.segment.view
    assert view.store.path == folder / "labels/red.tif.labels.zarr"
    assert view.image.path == folder / "red.tif"
    view.store.close()
    window.project.step(1)  # an image without labels
    wanted = folder / "labels/blue.tif.labels.zarr"
    qtbot.waitUntil(lambda: window.segment.output.path == wanted)
    assert window.image.image.path == folder / "blue.tif"
    window.stop()
