"""Dialogs that ask about files."""

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

CHECKPOINT = ".safetensors"


def ask_checkpoint(parent: QWidget, title: str, proposed: Path) -> Path | None:
    """Ask where to save a checkpoint; return None if cancelled.

    Qt's dialog asks before it replaces the file with the typed name. This function
    also asks for the name with the appended suffix.

    Parameters
    ----------
    parent
        Widget that the dialog belongs to.
    title
        Title of the dialog.
    proposed
        Path that the dialog proposes.
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


def ask_image_at_url(parent: QWidget, labels: str, url: str) -> bool:
    """Ask whether to open the image that a label store names by a URL.

    Parameters
    ----------
    parent
        Widget that the dialog belongs to.
    labels
        Name of the label store.
    url
        URL of the image.

    Returns
    -------
    True if the user agrees.
    """
    text = (
        f"{labels} contains the labels of an image at another address:\n{url}\n\n"
        "Opening it sends requests to that server. Do you want to open it?"
    )
    answer = QMessageBox.question(parent, "Image at another address", text)
    return bool(answer == QMessageBox.StandardButton.Yes)


def ask_replace_labels(
    parent: QWidget, store: str | None, made_by: tuple[str, ...]
) -> str | None:
    """Ask what to do with labels that were made with other settings.

    Parameters
    ----------
    parent
        Widget that the dialog belongs to.
    store
        Path of the label store; None for labels that are lost when the window closes.
    made_by
        Names of the checkpoints that made the labels.

    Returns
    -------
    ``"replace"``, ``"other"`` (write to another store) or None (cancelled).
    """
    box = QMessageBox(parent)
    box.setWindowTitle("Labels made with other settings")
    if store is None:
        what = "The labels shown were made with other settings"
        question, button = "keep both until the window closes?", "&Keep both"
    else:
        what = f"{store} contains labels made with other settings"
        question, button = "write to another folder?", "&Other folder"
    box.setText(f"{what}: {', '.join(made_by)}.")
    box.setInformativeText(f"Replace them during the run, or {question}")
    other = box.addButton(button, QMessageBox.ButtonRole.AcceptRole)
    over = box.addButton("&Replace", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(other)
    box.exec()
    clicked = box.clickedButton()
    return "other" if clicked is other else "replace" if clicked is over else None
