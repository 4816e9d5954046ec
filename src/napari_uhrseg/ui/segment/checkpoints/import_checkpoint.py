"""Import of checkpoints of other programs.

A dialog asks for what the file does not contain: the method, a second file, and the
names of the classes. A worker then writes a checkpoint of this program.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.io.paths import unused_path
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import PICKLES, checkpoint_folder, methods_for
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.ui.widgets.dialogs import ask_checkpoint
from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, note, push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Workers

TORCH_FILES = f"Files of PyTorch ({' '.join(f'*{e}' for e in PICKLES)})"


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Source, method and classes of an import; ``legend`` is a name of `LEGENDS`."""

    source: Path
    model: str
    second: Path | None = None
    legend: str | None = None


class CheckpointImport(QObject):
    """Import that asks for the method and classes, and emits the path of the result.

    ``busy`` is emitted when an import begins (True) and has ended or failed (False).
    """

    imported = Signal(object)
    busy = Signal(bool)

    def __init__(self, parent: QWidget, workers: Workers) -> None:
        super().__init__(parent)
        self._window, self._workers = parent, workers

    def offer(self, path: Path) -> bool:
        """Ask how to import a file or folder; return False if it cannot be imported."""
        methods = methods_for(path)
        if not methods or (path.suffix == ".safetensors" and _is_ours(path)):
            return False
        dialog = ImportDialog(path, methods, self._window)
        dialog.accepted.connect(lambda: self._start(dialog.request()))
        dialog.open()
        return True

    def _start(self, request: ImportRequest) -> None:
        target = default_target(request.source)
        if not os.access(target.parent, os.W_OK):
            title = f"{target.parent} is read-only. Save the checkpoint as"
            chosen = ask_checkpoint(self._window, title, Path(target.name))
            if chosen is None:
                return
            target = chosen
        self.busy.emit(True)
        self._workers.call(
            run_import,
            request,
            target,
            returned=self.imported.emit,
            finished=lambda: self.busy.emit(False),
        )


class ImportDialog(QDialog):
    """Dialog for the method, the second file and the classes of an import."""

    def __init__(self, path: Path, methods: tuple[str, ...], parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Import {path.name}")
        self._path = path
        self.method = combo("Method that the file belongs to.")
        for name in methods:
            self.method.addItem(REGISTRY[name].title, name)
        self.second = QLineEdit()
        self.second.setPlaceholderText("only for models with two files")
        self.second.setToolTip(
            "The published model has two files: choose local2global as the first and "
            "global as the second."
        )
        browse = push_button("…", "Choose the second file (global).", self._browse)
        browse.setAccessibleName("Choose second file")
        browse.setMaximumWidth(32)
        self.legend = combo("Data set whose class names and colours are used.")
        self.legend.addItem("Numbered classes", None)
        for name, legend in LEGENDS.items():
            self.legend.addItem(f"{name} ({len(legend)} classes)", name)
        words = note()
        words.setText(
            f"{path.name} comes from another program. It is read without running code "
            f"and saved as {default_target(path).name} in the same folder."
        )
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        ok = required(buttons.button(QDialogButtonBox.StandardButton.Ok))
        ok.setText("&Import")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        fields = QWidget()
        self._form = form_of(fields)
        add_row(self._form, "&Method", self.method)
        add_row(self._form, "&Second file", self.second, browse)
        add_row(self._form, "&Classes", self.legend)
        layout = QVBoxLayout(self)
        for part in (words, fields, buttons):
            layout.addWidget(part)
        self.method.currentIndexChanged.connect(self._method_chosen)
        self._method_chosen()
        self.resize(420, self.sizeHint().height())

    def request(self) -> ImportRequest:
        """Return what the user has chosen."""
        model, second = self.method.currentData(), self.second.text().strip()
        return ImportRequest(
            source=self._path,
            model=model,
            second=Path(second).expanduser()
            if second and REGISTRY[model].needs_second_file
            else None,
            legend=self.legend.currentData(),
        )

    def _method_chosen(self) -> None:
        entry = REGISTRY[self.method.currentData()]
        self._form.setRowVisible(1, entry.needs_second_file)

    def _browse(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Choose the second file", str(self._path.parent), TORCH_FILES
        )
        if name:
            self.second.setText(name)


def default_target(source: Path) -> Path:
    """Return ``<name>.safetensors`` beside the source, with a number if it exists."""
    folder = checkpoint_folder(source)
    if folder is not None:
        target = folder.with_name(f"{folder.name}.safetensors")
    else:
        target = source.with_suffix(".safetensors")
    return unused_path(target) if target.exists() else target


def run_import(request: ImportRequest, target: Path) -> Path:
    """Import and save a checkpoint.

    Raises
    ------
    CheckpointError
        If the source cannot be imported.
    """
    from napari_uhrseg.models.checkpoint import save_checkpoint
    from napari_uhrseg.models.importers import import_checkpoint

    legend = None if request.legend is None else LEGENDS[request.legend]
    model, card = import_checkpoint(
        request.source, request.model, request.second, legend
    )
    return save_checkpoint(target, model, card, half=False)


def _is_ours(path: Path) -> bool:
    try:
        read_card(path)
    except CheckpointError:
        return False
    return True
