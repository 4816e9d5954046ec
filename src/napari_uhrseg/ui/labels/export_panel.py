"""Export panel: format, target, and export on a worker thread."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.export import warnings
from napari_uhrseg.io.export.registry import Format, format_named, formats
from napari_uhrseg.io.paths import parent_or_home, unused_path
from napari_uhrseg.types import CleanUp
from napari_uhrseg.ui.labels.export_worker import ExportOptions, write_labels
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.widgets.clean_up_form import CleanUpForm
from napari_uhrseg.ui.widgets.layout import (
    CollapsibleSection,
    add_row,
    combo,
    form_of,
    narrow,
    note,
    push_button,
)
from napari_uhrseg.ui.widgets.number_text import accept_decimal_point
from napari_uhrseg.ui.workers.worker import Worker, Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

STEPS = 1000
EVERY = 2000  # ms between two updates of the warnings


class ExportPanel(QWidget):
    """Panel that exports the displayed labels to a file format of other programs.

    ``exported`` is True if the displayed labels have been exported in this session.
    """

    stateChanged = Signal()

    def __init__(self, workers: Workers, shown: LabelsSelection) -> None:
        super().__init__()
        self._workers, self._shown = workers, shown
        self._worker: Worker | None = None
        self._outcome, self.exported = "", False
        self._wanted_format = ""  # of the last session
        self._proposed = ""  # a target that the user did not choose
        self._warned = True  # True while the status shows the warnings of the format
        self.what = note()
        self.format = combo("File format of the exported labels.")
        self.line = QLineEdit()
        self.line.setToolTip("File or folder to write.")
        browse = push_button("…", "Choose where to export to.", self._browse)
        browse.setAccessibleName("Choose target")
        browse.setMaximumWidth(32)
        self.simplify = _pixels(
            "Removes corners whose triangle with their neighbours is smaller than the "
            "square of this length. Neighbours keep their shared borders."
        )
        self.smooth = _pixels(
            "Cuts corners so that outlines become smooth. They move by at most this "
            "length. Neighbours keep their shared borders."
        )
        self.start = push_button("E&xport", clicked=self._start, main=True)
        self.cancel = push_button("Stop", clicked=self._stop_job)
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setAccessibleName("Progress of the export")
        self.bar.hide()
        self.status = note()
        rows = QWidget()
        form = form_of(rows)
        add_row(form, "Format", self.format)
        add_row(form, "Target", self.line, browse)
        more = QWidget()
        rare = form_of(more)
        add_row(rare, "Simplify", self.simplify)
        add_row(rare, "Smooth", self.smooth)
        self.clean_up = CleanUpForm(rare)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start)
        buttons.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.what)
        layout.addWidget(rows)
        layout.addWidget(CollapsibleSection("More", more))
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        shown.changed.connect(self._labels_changed)
        self.format.currentIndexChanged.connect(lambda _: self._format_changed())
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(EVERY)
        self._labels_changed()
        self.setEnabled(False)

    @property
    def format_name(self) -> str:
        return str(self.format.currentData())

    @property
    def running(self) -> bool:
        """True while an export runs."""
        return self._worker is not None

    def find_formats(self) -> None:
        """Find the available formats; before that, none can be chosen."""
        self._workers.call(formats, returned=self._offer)

    def _offer(self, known: tuple[Format, ...]) -> None:
        self.setEnabled(True)
        for f in known:
            self.format.addItem(f.title, f.name)
        self._choose_format(self._wanted_format)

    def choices(self) -> dict[str, Any]:
        """Return the format and its options, for the session."""
        known = self.format_name if self.format.count() else self._wanted_format
        return {
            "format": known,
            "simplify": self.simplify.value(),
            "smooth": self.smooth.value(),
            **self.clean_up.choices(),
        }

    def set_choices(self, values: Mapping[str, Any]) -> None:
        """Show what `choices` has returned; unknown values have no effect."""
        self._choose_format(str(values.get("format", "")))
        for box, name in ((self.simplify, "simplify"), (self.smooth, "smooth")):
            if isinstance(values.get(name), int | float):
                box.setValue(values[name])
        self.clean_up.set_choices(values)

    def _choose_format(self, name: str) -> None:
        """Choose a format now, or when it is known to be available."""
        self._wanted_format = name
        row = self.format.findData(name)
        if row >= 0:
            self.format.setCurrentIndex(row)

    def _labels_changed(self) -> None:
        layer, self.exported = self._shown.layer, False
        if layer is None:
            self.what.setText("There are no labels yet. Segment an image first.")
        else:
            self.what.setText(
                f"Exports {layer.name} as displayed, with its corrections."
            )
        self._format_changed()
        self.stateChanged.emit()

    def _format_changed(self) -> None:
        if not self.format.count():  # no format is known yet
            return
        chosen = format_named(self.format_name)
        self.simplify.setEnabled(chosen.is_vector)
        self.smooth.setEnabled(chosen.is_vector)
        self.clean_up.set_enabled(chosen.name != "confidence")
        store = self._shown.store
        if store is not None and self.line.text().strip() in ("", self._proposed):
            near = store.image_path if store.temporary else store.path
            name = f"{(near or store.path).name.split('.')[0]}_{chosen.name}"
            target = parent_or_home(near) / (name + chosen.suffix)
            self._proposed = str(unused_path(target) if target.exists() else target)
            self.line.setText(self._proposed)
        if self._worker is None:
            self._idle("")
            self._warned = True
            self._warn()

    def _warn(self) -> None:
        """Show the warnings of the format, updated while labels are written."""
        store, name = self._shown.store, self.format_name
        if store is None or not self._warned or self._worker is not None:
            return

        def known(said: tuple[str, ...]) -> None:
            now = self._shown.store, self.format_name
            if now == (store, name) and self._warned and self._worker is None:
                self._say("\n".join(said))

        self._workers.call(
            warnings, store, name, returned=known, errored=lambda _: None
        )

    def showEvent(self, event: QShowEvent | None) -> None:
        super().showEvent(event)
        self._warn()  # labels may have been written while the panel was hidden

    def _look(self) -> None:
        if self.isVisible():
            self._warn()

    def _browse(self) -> None:
        suffix = format_named(self.format_name).suffix
        path, _ = QFileDialog.getSaveFileName(
            self, "Export to", self.line.text(), f"*{suffix}",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )  # fmt: skip
        if path:
            self.line.setText(path if path.endswith(suffix) else path + suffix)

    def _start(self) -> None:
        store, target = self._shown.store, Path(self.line.text().strip()).expanduser()
        if store is None:
            return
        try:
            options = self._options()
        except UhrSegError as error:
            report(error)
            return
        overwrite = target.exists() and self._may_replace(target)
        if target.exists() and not overwrite:
            return
        self._show_running()
        self._worker = self._workers.start(
            partial(write_labels, overwrite=overwrite),
            store,
            target,
            options,
            yielded=lambda done: self.bar.setValue(round(STEPS * done)),
            returned=lambda _: self._exported(store, target),
            errored=self._error,
            finished=self._finished,
        )
        self.stateChanged.emit()

    def _options(self) -> ExportOptions:
        """Return the format and its options. Raises UhrSegError for a wrong area."""
        lines = [self.simplify, self.smooth]
        simplify, smooth = (b.value() if b.isEnabled() else 0.0 for b in lines)
        clean_up = CleanUp()
        if self.clean_up.majority.isEnabled():
            clean_up = self.clean_up.settings()
        return ExportOptions(self.format_name, simplify, smooth, clean_up)

    def _show_running(self) -> None:
        self._warned = False
        self.start.setEnabled(False)
        self.cancel.setEnabled(True)
        self.cancel.setToolTip("Stop the export. Nothing is written.")
        self.bar.setValue(0)
        self.bar.show()
        self._say("Exporting…")
        self._outcome = "Stopped. Nothing was written."

    def _may_replace(self, target: Path) -> bool:
        box = QMessageBox(self)
        box.setText(f"{target.name} already exists.")
        box.setInformativeText("It is replaced when the export is complete.")
        replace = box.addButton("Replace", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        return box.clickedButton() is replace

    def _stop_job(self) -> None:
        if self._worker is not None:
            self._worker.quit()
            self.cancel.setEnabled(False)
            self._say("Stopping…")

    def _exported(self, store: "LabelStore", target: Path) -> None:
        self._outcome = f"Exported to {target}."
        self.exported = store is self._shown.store

    def _error(self, error: Exception) -> None:
        self._outcome = str(error)
        report(error)

    def _finished(self) -> None:
        self._worker = None
        self.bar.hide()
        self._idle(self._outcome)
        self.stateChanged.emit()

    def _idle(self, status: str) -> None:
        there = self._shown.store is not None
        self.start.setEnabled(there)
        self.start.setToolTip(
            "Write the target. It appears only when the export is complete."
            if there
            else "There are no labels to export yet."
        )
        self.cancel.setEnabled(False)
        self.cancel.setToolTip("There is no export to stop.")
        self._say(status)

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setVisible(bool(text))


def _pixels(tip: str) -> QDoubleSpinBox:
    """Return a field for a length in pixels; 0 is off."""
    made = QDoubleSpinBox()
    accept_decimal_point(made)
    made.setRange(0, 100)
    made.setSingleStep(0.5)
    made.setSuffix(" px")
    made.setSpecialValueText("Off")
    narrow(made)
    made.setToolTip(tip)
    return made
