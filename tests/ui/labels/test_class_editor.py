"""Test the menu of the classes: deletion of a class."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QMessageBox

from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.labels.class_editor import ClassEditor
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.widgets.class_list import ClassList
from napari_uhrseg.ui.workers.worker import Workers

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))


@pytest.fixture
def editor(qtbot, tmp_path):
    """Return the editor of labels: road in a corner, corrected in the middle."""
    picture = image_from_array(np.zeros((64, 64, 3), np.uint8), name="a", rgb=True)
    store = LabelStore.create(tmp_path / "labels.zarr", picture, LEGEND)
    with Corrections.open(store) as corrections:
        list(corrections.fill(Roi(0, 0, 16, 16), 1))
    store.release()
    workers = Workers()
    made = ClassEditor(ClassList(), workers)
    qtbot.addWidget(made)
    made.set_view(LabelsView(ViewerModel(), store, picture))
    made.legend.set_legend(LEGEND)
    made.legend.choose(1)
    yield made
    workers.close()


def choose(editor: ClassEditor, title: str) -> None:
    """Choose an entry of the submenu that deletes the class."""
    editor.menu.aboutToShow.emit()
    (menu,) = [a.menu() for a in editor.menu.actions() if "Delete" in a.text()]
    assert "Delete road" in menu.title()
    (action,) = [a for a in menu.actions() if a.text() == title]
    action.trigger()


@pytest.mark.parametrize(
    ("title", "becomes", "label"),
    [("lake…", "become lake", 2), ("no label…", "are removed", 0)],
)
def test_menu_deletes_a_class_after_a_question(
    editor, monkeypatch, qtbot, tmp_path, title, becomes, label
):
    asked = []

    def answer(*texts: object) -> QMessageBox.StandardButton:
        asked.append(texts[-1])
        return QMessageBox.StandardButton.Yes

    monkeypatch.setattr(QMessageBox, "question", answer)
    with qtbot.waitSignal(editor.classesDeleted):
        choose(editor, title)
    assert f"Its labels and corrections {becomes}." in asked[0]
    assert editor.legend.topLevelItemCount() == 1
    assert editor.legend.topLevelItem(0).text(0) == "lake"
    assert editor.button.isEnabled()
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        assert set(np.unique(store.read_labels(Roi(0, 0, 16, 16)))) == {label}


def test_menu_deletes_nothing_if_the_user_declines(editor, monkeypatch, tmp_path):
    no = QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *_: no)
    choose(editor, "no label…")
    assert editor.button.isEnabled()
    assert editor.button.text() == "Classes…"
    assert editor.legend.topLevelItemCount() == 2
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        assert store.legend == LEGEND
        assert set(np.unique(store.read_labels(Roi(0, 0, 16, 16)))) == {1}
