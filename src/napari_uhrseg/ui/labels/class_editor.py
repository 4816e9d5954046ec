"""Editor of the classes of a label store: add, rename, recolour, merge, delete."""

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QInputDialog,
    QMenu,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.widgets.class_list import ClassList, swatch
from napari_uhrseg.ui.widgets.layout import push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.legend_editor import LegendEditor
    from napari_uhrseg.io.labels.store import LabelStore


BUTTON = "Classes…"


class ClassEditor(QWidget):
    """Legend with a button to change its classes while labels are shown."""

    changed = Signal(object)  # label store whose classes were changed
    deleted = Signal(str, str)  # name, and that of the class the labels become
    classesDeleted = Signal()  # labels and corrections may have changed

    def __init__(self, legend: ClassList, workers: Workers) -> None:
        super().__init__()
        self.legend, self._workers = legend, workers
        self._view: LabelsView | None = None
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill_menu)
        tip = (
            "Add, rename, recolour, merge or delete classes. Acts on the chosen class."
        )
        self.button = push_button(BUTTON, tip)
        self.button.setMenu(self.menu)
        legend.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        legend.customContextMenuRequested.connect(self._asked)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(legend)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignRight)
        self.set_view(None)

    def set_view(self, view: LabelsView | None) -> None:
        self._view = view
        self.button.setVisible(view is not None)

    def _asked(self, at: QPoint) -> None:
        if self._view is not None:
            self.menu.popup(required(self.legend.viewport()).mapToGlobal(at))

    def _fill_menu(self) -> None:
        self.menu.clear()
        view = self._view
        if view is None:
            return
        self.menu.addAction("&Add a class…", self._add)
        chosen = next((c for c in view.classes if c.id == self.legend.chosen), None)
        if chosen is None:
            return
        self.menu.addAction(f"&Rename {chosen.name}…", lambda: self._rename(chosen))
        self.menu.addAction(f"&Colour of {chosen.name}…", lambda: self._recolor(chosen))
        others = [c for c in view.classes if c.id != chosen.id]
        into = required(self.menu.addMenu(f"&Merge {chosen.name} into"))
        into.setEnabled(bool(others))
        for other in others:
            into.addAction(swatch(other.color), other.name, self._merger(chosen, other))
        delete = required(
            self.menu.addMenu(f"&Delete {chosen.name}, its labels become")
        )
        delete.addAction("no label…", lambda: self._delete(chosen, None))
        for other in others:
            act = partial(self._delete, chosen, other)
            delete.addAction(swatch(other.color), f"{other.name}…", act)

    def _add(self) -> None:
        name, agreed = QInputDialog.getText(self, "Add a class", "Name of the class:")
        if agreed and name.strip() and self._view is not None:
            color = self._view.legend.spare_color()
            new = Legend((LabelClass(1, name.strip(), color),))
            self._change(lambda editor: editor.add_classes(new))

    def _rename(self, chosen: LabelClass) -> None:
        name, agreed = QInputDialog.getText(
            self, "Rename a class", f"New name of {chosen.name}:", text=chosen.name
        )
        if agreed and name.strip() not in ("", chosen.name):
            self._change(lambda editor: editor.rename_class(chosen.id, name.strip()))

    def _recolor(self, chosen: LabelClass) -> None:
        color = QColorDialog.getColor(QColor(chosen.color), self, chosen.name)
        if color.isValid():
            self._change(lambda editor: editor.recolor_class(chosen.id, color.name()))

    def _merger(self, chosen: LabelClass, other: LabelClass) -> Callable[[], None]:
        return lambda: self._change(
            lambda editor: editor.merge_class(chosen.id, other.id)
        )

    def _delete(self, chosen: LabelClass, other: LabelClass | None) -> None:
        """Delete a class in a worker, after a question."""
        view = self._view
        becomes = "are removed" if other is None else f"become {other.name}"
        text = (
            f"Delete the class {chosen.name}? Its labels and corrections {becomes}. "
            "This cannot be undone."
        )
        answer = QMessageBox.question(self, "Delete a class", text)
        if view is None or answer != QMessageBox.StandardButton.Yes:
            return
        into = 0 if other is None else other.id
        self.button.setEnabled(False)
        self._workers.start(
            _delete_locked,
            view.store,
            chosen.id,
            into,
            view.corrections,
            yielded=lambda share: self.button.setText(
                f"Deleting… {formatted(share, '.0%')}"
            ),
            returned=partial(self._removed, view, chosen.name, other),
            finished=self._deleted,
        )

    def _removed(
        self, view: LabelsView, name: str, into: LabelClass | None, legend: Legend
    ) -> None:
        self.deleted.emit(name, "" if into is None else into.name)
        self._changed(view, legend)

    def _deleted(self) -> None:
        self.button.setText(BUTTON)
        self.button.setEnabled(True)
        self.classesDeleted.emit()

    def _change(self, change: Callable[["LegendEditor"], Legend]) -> None:
        view = self._view
        if view is None:
            return

        changed = partial(self._changed, view)
        self._workers.call(_change_locked, view.store, change, returned=changed)

    def _changed(self, view: LabelsView, legend: Legend) -> None:
        """Show the changed classes of these labels."""
        view.set_legend(legend)
        view.refresh()
        if view is self._view:
            self.legend.set_legend(view.classes, view.hidden)
            self.legend.set_shares(view.store.area_shares())
        self.changed.emit(view.store)


def _change_locked(
    store: "LabelStore", change: Callable[["LegendEditor"], Legend]
) -> Legend:
    """Change the store under its lock, which a run of this process may share."""
    store.acquire()
    try:
        return change(store.legend_editor)
    finally:
        store.release()


def _delete_locked(
    store: "LabelStore", class_id: int, into: int, corrections: "Corrections | None"
) -> Generator[float, None, Legend]:
    """Delete a class under the lock of the store, which a run may share.

    Parameters
    ----------
    store
        The displayed labels.
    class_id, into
        Id of the class, and of the class that its labels become; 0: no label.
    corrections
        Open corrections of the labels; None: they are opened.

    Returns
    -------
    The legend without the class.
    """
    from napari_uhrseg.io.corrections.delete_class import delete_class

    store.acquire()
    try:
        yield from delete_class(store, class_id, into, corrections)
        return store.legend
    finally:
        store.release()
