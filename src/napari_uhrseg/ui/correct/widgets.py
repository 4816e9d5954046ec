"""Widgets of the Correct panel, from top to bottom."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QMenu, QVBoxLayout, QWidget

from napari_uhrseg.ui.correct.correction_list import CorrectionList
from napari_uhrseg.ui.correct.tool_row import ToolRow
from napari_uhrseg.ui.widgets.layout import (
    CollapsibleSection,
    column_of,
    note,
    push_button,
    row_of,
)
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.task_progress import TaskProgress

CONFIRM_KEY, NEXT_KEY = "C", "N"
NO_LABELS = (
    "There are no labels to correct. Segment an image, open labels, or press Correct "
    "to start with empty labels."
)
BUSY = "Another change is running."
READY = "Press Correct to paint on the labels in view."


class CorrectWidgets(QWidget):
    """Column of buttons, tools, progress bar and corrected regions."""

    importWanted = Signal(str)  # "polygons" or "mask"

    def __init__(self) -> None:
        super().__init__()
        self.correct = push_button(
            "Correct",
            "Correct the labels in view with the tools below. Number keys choose the "
            "class, 0 the eraser; hold Space to move the view.",
            main=True,
        )
        self.correct.setCheckable(True)
        self.undo = push_button(
            "Undo", "Undo the last change, also of an earlier session (Ctrl+Z)."
        )
        self.redo = push_button("Redo", "Redo the last undone change (Ctrl+Shift+Z).")
        self.tools = ToolRow()
        self.status = note()
        self.status.setAccessibleName("Correction status")
        self.confirm_view = push_button(
            "Confirm view",
            "Accept all labels in view as correct. They count as corrections. "
            f"Key {CONFIRM_KEY} while correcting.",
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
            "Next uncertain region",
            "Go to the most uncertain region not visited yet. "
            f"Key {NEXT_KEY} while correcting.",
        )
        self.elsewhere = push_button("", "")  # to another image of a project
        self.elsewhere.setMinimumWidth(60)
        self.only_corrections = QCheckBox("Show only corrections")
        self.only_corrections.setToolTip("Hide the predictions.")
        self.bar = TaskProgress()
        self.regions = CorrectionList()
        self._lay_out()

    def _lay_out(self) -> None:
        self.class_place = QVBoxLayout()  # for the list of classes
        more = QWidget()
        rows = column_of(
            _row(self.confirm_shape, self.fill_shapes),
            _row(self.only_corrections, self.import_button),
        )
        self.clean_place = QVBoxLayout()  # for the clean-up
        rows.addLayout(self.clean_place)
        more.setLayout(rows)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(_row(self.correct, self.undo, self.redo))
        layout.addWidget(self.tools)
        layout.addWidget(self.status)
        layout.addWidget(_row(self.next_uncertain, self.confirm_view))
        layout.addWidget(self.elsewhere)
        layout.addWidget(self.bar)
        layout.addLayout(self.class_place)
        layout.addWidget(self.regions)
        layout.addWidget(CollapsibleSection("More", more))


def _row(*widgets: QWidget) -> QWidget:
    """Return a row of widgets that can be narrow."""
    for widget in widgets:
        widget.setMinimumWidth(60)
    return row_of(*widgets, first=2)
