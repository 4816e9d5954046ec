"""Trained models that are stored with the labels until they are kept or discarded."""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from napari_uhrseg.atomic import replacing
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import FineTuneSettings
from napari_uhrseg.ui.finetune.worker import FineTuneRequest, NewModel
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.workers.worker import Workers

Draft = tuple[FineTuneFinished, Path | NewModel]  # result and start of the training
FOLDER = ".finetune"  # in the store of the labels
STALE = 7 * 24 * 3600  # seconds; older drafts without a result are removed


def new_draft(store: PathOrUrl, name: str, fallback: Path) -> Path:
    """Return the path of a new draft.

    Parameters
    ----------
    store
        Folder or URL of the corrected labels. The draft is stored in a folder if it
        is writable.
    name
        File name of the draft. A time stamp is put before it.
    fallback
        Folder for drafts of labels that are read-only or have a URL.

    Returns
    -------
    Path
        Path of the draft, which does not exist yet.
    """
    folder = _own_folder(store) or fallback
    _remove_stale(folder)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return folder / f"{stamp}-{os.getpid()}-{name}"


def _own_folder(store: PathOrUrl) -> Path | None:
    """Return the folder for drafts in a store, or None if there can be none."""
    if isinstance(store, Path):
        with suppress(OSError):  # the labels may be read-only
            (store / FOLDER).mkdir(exist_ok=True)
            return store / FOLDER
    return None


def _remove_stale(folder: Path) -> None:
    """Remove files of trainings that did not end."""
    for file in folder.glob("*.safetensors"):
        with suppress(OSError):
            left = not _note(file).exists()
            if left and time.time() - file.stat().st_mtime > STALE:
                file.unlink()


def save_draft(compared: FineTuneFinished, start: Path | NewModel) -> None:
    """Write the result of a training run beside its draft."""
    came_from = str(start) if isinstance(start, Path) else asdict(start)
    said = {
        "before": dict(compared.before),
        "after": dict(compared.after),
        "comparison": compared.comparison,
        "start": came_from,
    }
    note = _note(compared.path)
    with replacing(note, note.with_suffix(".new"), sync=False) as part:
        part.write_text(json.dumps(said), "utf-8")


def find_draft(store: PathOrUrl) -> Draft | None:
    """Return the newest draft of a store and its start; URLs have no drafts.

    Raises
    ------
    CheckpointError
        If there is no other draft than those whose notes are damaged.
    """
    if not isinstance(store, Path):
        return None
    damaged = []
    for note in sorted((store / FOLDER).glob("*.json"), reverse=True):
        draft = note.with_suffix(".safetensors")
        try:
            said = json.loads(note.read_text("utf-8"))
            begun = said["start"]
            start = Path(begun) if isinstance(begun, str) else NewModel(**begun)
            found = FineTuneFinished(
                said["before"], said["after"], said["comparison"], draft
            )
        except (OSError, ValueError, KeyError, TypeError):
            damaged.append(note)
            continue
        if draft.exists():
            return found, start
    if damaged:
        raise CheckpointError(
            f"{damaged[0].name} is damaged: the model that was trained on these labels "
            "cannot be kept or discarded here.",
            f"The model is {damaged[0].with_suffix('.safetensors').name} in the same "
            f"folder, {damaged[0].parent}. Move it elsewhere, and delete the note.",
        )
    return None


def is_with_labels(draft: Path) -> bool:
    """Return whether `find_draft` can find a draft with its labels."""
    return draft.parent.name == FOLDER and _note(draft).exists()


def delete_draft(draft: Path) -> None:
    """Delete a draft that was saved elsewhere or discarded."""
    for file in (_note(draft), draft):
        with suppress(OSError):
            file.unlink()
    with suppress(OSError):  # the folder may contain another draft
        if draft.parent.name == FOLDER:
            draft.parent.rmdir()


def _note(draft: Path) -> Path:
    return draft.with_suffix(".json")


class DraftSearch(QObject):
    """Search for the undecided draft of labels on a worker thread."""

    found = Signal(object, object, object)  # LabelsView, FineTuneFinished, its request

    def __init__(
        self, workers: Workers, hardware: HardwareForm, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._workers, self._hardware = workers, hardware

    def look(self, view: LabelsView | None) -> None:
        """Look for the draft of displayed labels, if there are any."""
        if view is None:
            return

        def returned(draft: Draft | None) -> None:
            if draft is not None:
                settings = FineTuneSettings(device=self._hardware.device or "auto")
                request = FineTuneRequest(
                    view.image,
                    view.store.path,
                    draft[1],
                    settings,
                    self._hardware.budget_bytes,
                )
                self.found.emit(view, draft[0], request)

        self._workers.call(find_draft, view.store.path, returned=returned)
