"""Which model, and which of its checkpoints: samples, recent ones, any file."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSettings, Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.models.importers import PICKLES
from napari_uhrseg.models.registry import DEFAULT_MODEL, REGISTRY
from napari_uhrseg.types import Card
from napari_uhrseg.ui.segment.import_checkpoint import CheckpointImport
from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, note, push_button
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import format_length

RECENT = 8
BROWSE = "&Browse…"
CHECKPOINTS = (
    f"Checkpoints (*.safetensors {' '.join(f'*{e}' for e in PICKLES)} config.json)"
)
Found = list[tuple[Path, Card]]


class ModelPicker(QWidget):
    """``path`` and ``card`` are the checkpoint chosen, or None."""

    changed = Signal()

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self._cards: dict[Path, Card] = {}
        self.model, self.sentence = combo(), note()
        self.checkpoint = combo("A checkpoint is a model with what it has learned.")
        tip = (
            "Use a checkpoint file (.safetensors) of your own, or import one: an "
            "official file of ISDNet or GLNet, or the config.json of a folder saved by "
            "segmentation-models-pytorch."
        )
        self.browse = push_button(BROWSE, tip, self._browse)
        self.importing = CheckpointImport(self, workers)
        self.importing.imported.connect(self.use)
        self.importing.busy.connect(self._show_importing)
        self.show_card = push_button("C&ard…", clicked=self._show_card)
        self.note = note()
        form = form_of(self)
        add_row(form, "&Model", self.model)
        form.addRow(self.sentence)
        add_row(form, "Chec&kpoint", self.checkpoint)
        add_row(form, "", self.browse, self.show_card)
        form.addRow(self.note)
        self._fill_models()
        self.model.currentIndexChanged.connect(self._model_chosen)
        self.checkpoint.currentIndexChanged.connect(self._checkpoint_chosen)
        self._model_chosen()
        workers.call(_find_checkpoints, _recent(), returned=self._found)

    @property
    def path(self) -> Path | None:
        text = self.checkpoint.currentData()  # Qt finds text, not paths, by value
        return Path(text) if text else None

    @property
    def card(self) -> Card | None:
        return None if self.path is None else self._cards.get(self.path)

    @property
    def any_found(self) -> bool:
        """Whether checkpoints of any method have been read."""
        return bool(self._cards)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where checkpoints that are known lie."""
        return tuple(dict.fromkeys(path.parent for path in self._cards))

    def use(self, path: Path, then: Callable[[], None] | None = None) -> None:
        """Choose this checkpoint file, once its card has been read.

        Of another program's file or folder, a checkpoint is made first. ``then`` is
        called when a checkpoint has been chosen.
        """
        if self.importing.offer(path):
            return

        def add(found: tuple[Path, Card]) -> None:
            self._add(found)
            if then is not None:
                then()

        self._workers.call(_with_card, path, returned=add)

    def _fill_models(self) -> None:
        for entry in REGISTRY.values():
            self.model.addItem(entry.title, entry.name)
            tip = f"{entry.sentence}\n{entry.published}"
            row = self.model.count() - 1
            self.model.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
        self.model.setCurrentIndex(self.model.findData(DEFAULT_MODEL))

    def _found(self, found: Found) -> None:
        self._cards.update(dict(found))
        self._model_chosen()

    def _add(self, found: tuple[Path, Card]) -> None:
        path, card = found
        self._cards[path] = card
        _remember(path)
        row = self.model.findData(card.model)
        if row >= 0 and row != self.model.currentIndex():
            self.model.setCurrentIndex(row)
        self._model_chosen()
        self.checkpoint.setCurrentIndex(self.checkpoint.findData(str(path)))

    def _model_chosen(self) -> None:
        name = self.model.currentData()
        entry = REGISTRY[name]
        self.sentence.setText(f"{entry.sentence}\nPublished: {entry.published}")
        self.model.setToolTip(entry.published)
        before = self.path
        self.checkpoint.blockSignals(True)
        self.checkpoint.clear()
        for path, card in self._cards.items():
            if card.model == name:
                self.checkpoint.addItem(card.name or path.stem, str(path))
                row = self.checkpoint.count() - 1
                self.checkpoint.setItemData(row, str(path), Qt.ItemDataRole.ToolTipRole)
        self.checkpoint.setCurrentIndex(max(0, self.checkpoint.findData(str(before))))
        self.checkpoint.blockSignals(False)
        self._checkpoint_chosen()

    def _checkpoint_chosen(self) -> None:
        card = self.card
        self.checkpoint.setEnabled(card is not None)
        self.show_card.setEnabled(card is not None)
        self.show_card.setToolTip(
            "What it was trained on, its classes, licence and figures."
            if card
            else "Choose a checkpoint first."
        )
        self.note.setText(
            ""
            if card
            else "No checkpoint of this model is known here. Browse to one, or train "
            "one: napari-uhrseg train."
        )
        self.note.setVisible(card is None)
        self.changed.emit()

    def _browse(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Choose a checkpoint", "", CHECKPOINTS
        )
        if name:
            self.use(Path(name))

    def _show_importing(self, busy: bool) -> None:
        self.browse.setEnabled(not busy)
        self.browse.setText("Importing…" if busy else BROWSE)

    def _show_card(self) -> None:
        if self.card is not None and self.path is not None:
            CardDialog(self.card, self.path, self).open()


class CardDialog(QDialog):
    """A checkpoint's card, to be read."""

    def __init__(self, card: Card, path: Path, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Card of {card.name or path.name}")
        self.text = QTextBrowser(openExternalLinks=True)
        self.text.setHtml(card_html(card, path))
        self.text.setTabChangesFocus(True)
        self.text.setAccessibleName("Card")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(buttons)
        self.resize(560, 520)


def card_html(card: Card, path: Path) -> str:
    """The card as a two-column table, only with what it says."""
    spec = card.spec
    views = ", ".join(f"{n} {v}" for n, v in spec.views.items())
    size = "unknown" if spec.pixel_size is None else format_length(spec.pixel_size)
    swatches = " ".join(
        f'<span style="color:{c.color}">■</span>&nbsp;{escape(c.name)}'
        for c in card.legend
    )
    rows: dict[str, Any] = {
        "File": path,
        "Model": card.model,
        "Arguments": ", ".join(f"{k}={v}" for k, v in card.arguments.items()),
        "Trained on": card.trained_on,
        "Not good for": card.limits,
        "Pixel size": size,
        "Sees": f"windows of {spec.window} px; {views}",
        "Metrics": ", ".join(f"{k} {v:.3g}" for k, v in card.metrics.items()),
        "Source": card.source,
        "Licence": card.licence,
        "Citation": card.citation,
        "Command": card.command,
        "Parent": card.parent or "",
    }
    lines = [
        f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{escape(str(v))}</td></tr>"
        for k, v in rows.items()
        if str(v)
    ]
    lines.append(f"<tr><td><b>Classes</b></td><td>{swatches}</td></tr>")
    return f"<table cellpadding=3>{''.join(lines)}</table>"


def _find_checkpoints(recent: list[Path]) -> Found:
    """The samples' and recent checkpoints that can be read."""
    from napari_uhrseg.errors import CheckpointError
    from napari_uhrseg.samples import data_dir

    samples = sorted(data_dir().rglob("*.safetensors"))
    found: Found = []
    for path in dict.fromkeys([*samples, *(p for p in recent if p.exists())]):
        try:
            found.append(_with_card(path))
        except CheckpointError:
            continue  # a damaged one is told when the person chooses it
    return found


def _with_card(path: Path) -> tuple[Path, Card]:
    from napari_uhrseg.models.card_header import read_card

    return path, read_card(path)


def _recent() -> list[Path]:
    stored = QSettings("napari-uhrseg", "napari-uhrseg").value("checkpoints", [])
    names = [stored] if isinstance(stored, str) else stored or []
    return [Path(name) for name in names]


def _remember(path: Path) -> None:
    names = dict.fromkeys([str(path), *(str(p) for p in _recent())])
    settings = QSettings("napari-uhrseg", "napari-uhrseg")
    settings.setValue("checkpoints", list(names)[:RECENT])
