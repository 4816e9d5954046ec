"""Widgets of the Correct panel, from top to bottom."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QMenu, QVBoxLayout, QWidget

from napari_uhrseg.ui.correct.correction_list import CorrectionList
from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.task_progress import TaskProgress


class CorrectWidgets(QWidget):
    """Column of correction buttons, progress bar and corrected regions."""

    importWanted = Signal(str)  # "polygons" or "mask"

    def __init__(self) -> None:
        super().__init__()
        self.correct = push_button(
            "Correct",
            "Paint on the labels with napari's brush, fill, polygon and eraser. Keys 1 "
            "to 9 choose the class, 0 the eraser; hold Space to move the view.",
        )
        self.correct.setCheckable(True)
        self.undo = push_button(
            "Undo", "Undo the last change, also of an earlier session (Ctrl+Z)."
        )
        self.redo = push_button("Redo", "Redo the last undone change (Ctrl+Shift+Z).")
        self.status = note()
        self.status.setAccessibleName("Correction status")
        self.confirm_view = push_button(
            "Confirm view",
            "Accept all labels in view as correct. They count as corrections.",
        )
        self.confirm_shape = push_button(
            "Confirm shape",
            "Accept the labels in the selected (or last) shape as correct.",
        )
        self.fill_shapes = push_button(
            "Fill shapes",
            "Set the selected (or all) shapes to the chosen class.",
        )
        self.import_button = push_button("Import", "Import corrections from a file.")
        menu = QMenu(self.import_button)
        for title, kind in (
            ("&Polygons (GeoJSON)…", "polygons"),
            ("&Mask (PNG, GeoTIFF)…", "mask"),
        ):
            action = required(menu.addAction(title))
            action.triggered.connect(lambda _, k=kind: self.importWanted.emit(k))
        self.import_button.setMenu(menu)
        self.next_uncertain = push_button(
            "Next uncertain region", "Go to the most uncertain region not visited yet."
        )
        self.only_corrections = QCheckBox("Show only corrections")
        self.only_corrections.setToolTip("Hide the predictions.")
        self.bar = TaskProgress()
        self.regions = CorrectionList()
        self._lay_out()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for row in (
            (self.correct, self.undo, self.redo), self.status,
            (self.confirm_view, self.confirm_shape),
            (self.fill_shapes, self.import_button),
            self.next_uncertain, self.only_corrections, self.bar, self.regions,
        ):  # fmt: skip
            if isinstance(row, QWidget):
                layout.addWidget(row)
                continue
            buttons = QHBoxLayout()
            for button in row:
                button.setMinimumWidth(60)
                buttons.addWidget(button, 2 if button is self.correct else 1)
            layout.addLayout(buttons)
