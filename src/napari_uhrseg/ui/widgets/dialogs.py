"""Questions about files, and the names that are proposed for them."""

import re
from pathlib import Path
from typing import TypeVar

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_uhrseg.io.paths import Address, exists

CHECKPOINT = ".safetensors"

A = TypeVar("A", bound=Address)


def folder_of(where: Address | None) -> Path:
    """The folder of a file; of a URL, or of nothing, the person's own."""
    return where.parent if isinstance(where, Path) else Path.home()


def free_name(path: A) -> A:
    """The path with the next number that is not taken."""
    stem = re.sub(r"_\d+$", "", path.stem)
    number = 2
    while exists(path.with_name(f"{stem}_{number}{path.suffix}")):
        number += 1
    return path.with_name(f"{stem}_{number}{path.suffix}")  # type: ignore[return-value]  # of the same kind


def ask_checkpoint(parent: QWidget, title: str, proposed: Path) -> Path | None:
    """Where to write a checkpoint; None: nowhere.

    The dialog asks before a file is replaced, but only of the name as it was typed.
    """
    kinds = f"Checkpoints (*{CHECKPOINT})"
    name, _ = QFileDialog.getSaveFileName(parent, title, str(proposed), kinds)
    if not name or name.endswith(CHECKPOINT):
        return Path(name) if name else None
    path = Path(name + CHECKPOINT)
    if path.exists():
        text = f"{path.name} already exists.\nDo you want to replace it?"
        if QMessageBox.question(parent, title, text) != QMessageBox.StandardButton.Yes:
            return ask_checkpoint(parent, title, path)
    return path


def ask_about(
    parent: QWidget, path: Address | None, made_by: tuple[str, ...]
) -> str | None:
    """What to do with labels made with other settings; None: nothing.

    ``path`` None: they last as long as the window.
    """
    box = QMessageBox(parent)
    box.setWindowTitle("Labels made with other settings")
    if path is None:
        what = "The labels shown were made with other settings"
        question, button = "keep both until the window closes?", "&Keep both"
    else:
        what = f"{path} holds labels made with other settings"
        question, button = "write to another name?", "&Other name"
    box.setText(f"{what}: {', '.join(made_by)}.")
    box.setInformativeText(f"Replace them as the run goes, or {question}")
    other = box.addButton(button, QMessageBox.ButtonRole.AcceptRole)
    over = box.addButton("&Replace", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(other)
    box.exec()
    clicked = box.clickedButton()
    return "other" if clicked is other else "replace" if clicked is over else None
