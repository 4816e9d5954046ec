"""Bar that offers to open the labels of an image that exist on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QVBoxLayout

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.segment.output import default_output
from napari_uhrseg.ui.widgets.layout import combo, note, push_button
from napari_uhrseg.ui.widgets.number_text import local_date
from napari_uhrseg.ui.widgets.remembered import (
    remember,
    remember_entry,
    remembered,
    remembered_entry,
)
from napari_uhrseg.ui.workers.worker import Workers

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.existing_labels import ExistingLabels

LABELS = "labels"  # key: paths of the latest labels, by the image's fingerprint
ALWAYS = "always_open_labels"
MOST_LABELS = 8  # of an image, that are remembered


class LabelsOffer(QFrame):
    """Bar with the latest labels of an image, and a button that opens them.

    Labels are found beside the image, and where they were opened before. The bar is
    hidden if there are none, and while labels of the image are displayed.
    """

    wanted = Signal(object)  # path of the labels to open

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self._image: Image | None = None
        self._shows_labels = False
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.text = note()
        self.choice = combo("Labels of this image, the latest change first.")
        self.choice.setAccessibleName("Labels found")
        tip = "Show these labels with their classes, corrections and settings."
        self.open = push_button("Open labels", tip, self._open)
        self.always = QCheckBox("Always open them")
        self.always.setToolTip(
            "Open the latest labels of an image together with the image."
        )
        self.always.setChecked(remembered(ALWAYS, False) is True)
        self.always.toggled.connect(lambda on: remember(ALWAYS, bool(on)))
        self._lay_out()
        self.hide()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        layout.addWidget(self.text)
        layout.addWidget(self.choice)
        row = QHBoxLayout()
        row.addWidget(self.open, 1)
        row.addWidget(self.always)
        layout.addLayout(row)

    def set_image(self, image: Image | None) -> None:
        """Look for the labels of another image in a worker, and offer them."""
        if image is self._image:
            return
        self._image = image
        self.choice.clear()
        self.hide()
        if image is None or image.path is None or not image.fingerprint:
            return

        def found(labels: "tuple[ExistingLabels, ...]") -> None:
            if image is self._image:
                self._offer(labels)

        self._workers.call(_labels_of, image, returned=found)

    def set_view(self, view: Any) -> None:
        """Hide the bar while labels are displayed, and remember where they are."""
        self._shows_labels = view is not None
        if view is not None and not view.store.temporary:
            _remember_labels(view.image, view.store.path)
        if self._shows_labels:
            self.hide()

    def _offer(self, labels: "tuple[ExistingLabels, ...]") -> None:
        if not labels or self._shows_labels:
            return
        for one in labels:
            text = f"{one.path.name}, {local_date(one.changed)}"
            self.choice.addItem(text, str(one.path))
            row = self.choice.count() - 1
            role = Qt.ItemDataRole.ToolTipRole
            self.choice.setItemData(row, str(one.path), role)
        several = len(labels) > 1
        first = "" if several else f" {self.choice.currentText()}"
        self.text.setText(f"Labels of this image were found:{first}")
        self.text.setToolTip(str(labels[0].path))
        self.choice.setVisible(several)
        self.show()
        if self.always.isChecked():
            self._open()

    def _open(self) -> None:
        path = self.choice.currentData()
        if path:
            self.wanted.emit(Path(path))


def _remember_labels(image: Image, path: Any) -> None:
    """Put labels first among the remembered ones of their image."""
    before = remembered_entry(LABELS, image.fingerprint) or []
    paths = dict.fromkeys([str(path), *map(str, before)])
    remember_entry(LABELS, image.fingerprint, list(paths)[:MOST_LABELS])


def _labels_of(image: Image) -> "tuple[ExistingLabels, ...]":
    """Return the labels beside an image, and those that were opened before."""
    from napari_uhrseg.io.labels.existing_labels import existing_labels

    known = remembered_entry(LABELS, image.fingerprint) or []
    paths = [Path(text) for text in map(str, known) if "://" not in text]
    if image.path is not None:
        usual = default_output(image.path, image.series_number)
        numbered = usual.parent.glob(f"{usual.stem}_*{usual.suffix}")
        paths += [usual, *numbered]
    return existing_labels(image, paths)
