"""Dialogs that ask about files."""

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_uhrseg.units import counted

CHECKPOINT = ".safetensors"
OTHER_LABELS = "Labels made with other settings"
MOST_NAMES = 3  # images that a question names


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


def ask_last_urls(parent: QWidget, urls: Sequence[str]) -> bool:
    """Ask whether to open the images and labels of the last session that are at URLs.

    Parameters
    ----------
    parent
        Widget that the dialog belongs to.
    urls
        The URLs, at least one.

    Returns
    -------
    True if the user agrees.
    """
    more = len(urls) - MOST_NAMES
    listed = "\n".join(urls[:MOST_NAMES]) + (f"\nand {more} more" if more > 0 else "")
    text = (
        f"The last session contains images or labels at URLs:\n{listed}\n\n"
        "Opening them sends requests to these servers. Do you want to open them?"
    )
    answer = QMessageBox.question(parent, "Images at URLs", text)
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
    box.setWindowTitle(OTHER_LABELS)
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


def ask_replace_labels_of(parent: QWidget, images: Sequence[str]) -> bool:
    """Ask whether to replace the labels of several images.

    Parameters
    ----------
    parent
        Widget that the dialog belongs to.
    images
        Names of the images whose labels were made with other settings.

    Returns
    -------
    True to replace the labels, False to keep them.
    """
    names = ", ".join(images[:MOST_NAMES])
    more = f" and {len(images) - MOST_NAMES} more" if len(images) > MOST_NAMES else ""
    were = "was" if len(images) == 1 else "were"
    box = QMessageBox(parent)
    box.setWindowTitle(OTHER_LABELS)
    box.setText(
        f"{counted(len(images), 'image')} {were} left out, because the labels were "
        f"made with another checkpoint or other settings: {names}{more}."
    )
    box.setInformativeText("Replace these labels? Corrections are kept.")
    replace = box.addButton("&Replace", QMessageBox.ButtonRole.DestructiveRole)
    keep = box.addButton("&Keep", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.setEscapeButton(keep)
    box.exec()
    return bool(box.clickedButton() is replace)
