"""Controls to segment again or to go back to an earlier version of a checkpoint."""

from functools import partial
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QVBoxLayout, QWidget

from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Card
from napari_uhrseg.ui.finetune import worker as work
from napari_uhrseg.ui.widgets.layout import note, push_button, row_of
from napari_uhrseg.ui.workers.worker import Workers

NO_LABELS = "Segment the image first; then segment it again with another checkpoint."


class RerunPanel(QWidget):
    """Pair of buttons with menus, and a note on the labels that will be replaced."""

    again = Signal(object, bool)  # checkpoint's path; only likely changes
    goBack = Signal(object)  # checkpoint's path

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self._path: Path | None = None
        self._asked = 0
        self.note = note()
        self.segment = push_button("Segment again")
        self.back = push_button("Go back")
        menu = QMenu(self.segment)
        menu.addAction("Where labels are likely to change, in view first",
                       lambda: self._again(True))  # fmt: skip
        menu.addAction("Everything, in view first", lambda: self._again(False))
        self.segment.setMenu(menu)
        self.older = QMenu(self.back)
        self.back.setMenu(self.older)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(row_of(self.segment, self.back))
        layout.addWidget(self.note)
        self._blocked = ""
        self._show(work.LabelProvenance("", False), [])

    def set_state(
        self, path: Path | None, store: PathOrUrl | None, folders: tuple[Path, ...]
    ) -> None:
        """Set the checkpoint, the labels, and the folders of earlier versions.

        Parameters
        ----------
        path
            File of the chosen checkpoint. None: none is chosen.
        store
            Folder or URL of the labels. None: there are no labels.
        folders
            Folders in which earlier versions of the checkpoint are searched.
        """
        self._path = path
        self._asked += 1
        number = self._asked
        if path is None:
            self._show(work.LabelProvenance("", False), [])
            return
        self._workers.call(
            work.label_provenance,
            path,
            store,
            folders,
            returned=lambda found: (
                self._show(*found) if number == self._asked else None
            ),
        )

    def clear(self) -> None:
        """Remove the note on other labels."""
        self._asked += 1
        self._show(work.LabelProvenance("", False), [])

    def set_blocked(self, why: str) -> None:
        """Set the reason why nothing can be segmented; "" if something can."""
        self._blocked = why
        self._enable()

    def _show(
        self, standing: "work.LabelProvenance", older: list[tuple[Path, Card]]
    ) -> None:
        self._standing, self._older = standing, older
        self.note.setText(standing.text)
        self.note.setVisible(bool(standing.text))
        self.older.clear()
        for path, card in older:
            self.older.addAction(card.name or path.stem, partial(self._chosen, path))
        self._enable()

    def _enable(self) -> None:
        why = self._blocked or ("" if self._standing.labelled else NO_LABELS)
        self.segment.setEnabled(not why)
        self.segment.setToolTip(
            why
            or "Segment again with the chosen checkpoint. Corrected pixels are kept."
        )
        why = "" if self._older else "No earlier version of this checkpoint was found."
        self.back.setEnabled(not why and not self._blocked)
        self.back.setToolTip(
            self._blocked or why or "Choose an earlier version of this checkpoint."
        )

    def _again(self, only_likely: bool) -> None:
        if self._path is not None:
            self.again.emit(self._path, only_likely)

    def _chosen(self, path: Path, _: object = None) -> None:
        self.goBack.emit(path)
