"""Editor of the classes of a label store: add, rename, recolour, merge."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QInputDialog, QMenu, QVBoxLayout, QWidget

from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.widgets.class_list import ClassList, swatch
from napari_uhrseg.ui.widgets.layout import push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Workers

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.legend_editor import LegendEditor
    from napari_uhrseg.io.labels.store import LabelStore


class ClassEditor(QWidget):
    """Legend with a button to change its classes while labels are shown."""

    def __init__(self, legend: ClassList, workers: Workers) -> None:
        super().__init__()
        self.legend, self._workers = legend, workers
        self._view: LabelsView | None = None
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill_menu)
        tip = "Add, rename, recolour or merge classes. Acts on the chosen class."
        self.button = push_button("Classes…", tip)
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

    def _change(self, change: Callable[["LegendEditor"], Legend]) -> None:
        view = self._view
        if view is None:
            return

        def changed(legend: Legend) -> None:
            view.set_legend(legend)
            view.refresh()
            if view is self._view:
                self.legend.set_legend(view.classes, view.hidden)
                self.legend.set_shares(view.store.area_shares())

        self._workers.call(_change_locked, view.store, change, returned=changed)


def _change_locked(
    store: "LabelStore", change: Callable[["LegendEditor"], Legend]
) -> Legend:
    """Change the store under its lock, which a run of this process may share."""
    store.acquire()
    try:
        return change(store.legend_editor)
    finally:
        store.release()
