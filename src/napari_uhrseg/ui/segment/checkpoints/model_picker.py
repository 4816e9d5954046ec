"""Form for the model and its checkpoint: a sample, a recent one, or any file."""

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

from napari_uhrseg.engine.planning.checkpoint_choice import (
    closest,
    describe_misfit,
    fits,
    misfits,
    ranked,
)
from napari_uhrseg.errors import UndescribedError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.importers import PICKLES, methods_for
from napari_uhrseg.models.onnx.card import ONNX
from napari_uhrseg.models.registry import DEFAULT_MODEL, REGISTRY
from napari_uhrseg.types import Card
from napari_uhrseg.ui.segment.checkpoints.import_checkpoint import CheckpointImport
from napari_uhrseg.ui.segment.checkpoints.onnx_description import OnnxDescriptions
from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, note, push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Workers, report
from napari_uhrseg.units import format_length, formatted

ONNX_TITLE = "ONNX network"
ONNX_TIP = (
    "A network of another program. It runs on the CPU and cannot be trained further."
)
RECENT = 8
LIST_WIDTH = 640  # pixels, at most
BROWSE = "&Browse…"
CHECKPOINTS = (
    f"Checkpoints (*.safetensors *.onnx {' '.join(f'*{e}' for e in PICKLES)} "
    "config.json)"
)
Found = list[tuple[Path, Card]]


class ModelPicker(QWidget):
    """Form for model and checkpoint; ``path`` and ``card`` are None without one."""

    changed = Signal()

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self._cards: dict[Path, Card] = {}
        self._image: Image | None = None
        self.model = combo()
        self.checkpoint = combo("File with the trained weights of the model.")
        tip = (
            "Choose a checkpoint file (.safetensors) or an ONNX network, or import "
            f"one: an official file of {_importable()}, or the config.json of a folder "
            "saved by segmentation-models-pytorch."
        )
        self.browse = push_button(BROWSE, tip, self._browse)
        self.importing = CheckpointImport(self, workers)
        self.importing.imported.connect(self.use)
        self.importing.busy.connect(self._show_importing)
        self._descriptions = OnnxDescriptions(self, workers)
        self.show_card = push_button("Model c&ard…", clicked=self._show_card)
        self.note = note()
        self._lay_out()
        self._fill_models()
        self.model.currentIndexChanged.connect(self._model_chosen)
        self.checkpoint.currentIndexChanged.connect(self._checkpoint_chosen)
        self._model_chosen()
        workers.call(_find_checkpoints, _recent(), returned=self._found)

    def _lay_out(self) -> None:
        form = form_of(self)
        add_row(form, "&Model", self.model)
        add_row(form, "Chec&kpoint", self.checkpoint)
        add_row(form, "", self.browse, self.show_card)
        form.addRow(self.note)

    @property
    def path(self) -> Path | None:
        text = self.checkpoint.currentData()  # text, because Qt cannot find paths
        return Path(text) if text else None

    @property
    def card(self) -> Card | None:
        return None if self.path is None else self._cards.get(self.path)

    @property
    def any_found(self) -> bool:
        """True if checkpoints of any model have been read."""
        return bool(self._cards)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of the known checkpoints."""
        return tuple(dict.fromkeys(path.parent for path in self._cards))

    def use(self, path: Path, then: Callable[[], None] | None = None) -> None:
        """Choose a checkpoint file after its card has been read.

        A file or folder of another program is imported first. An ONNX network without
        a description is described first.

        Parameters
        ----------
        path
            The file or folder.
        then
            Function that is called after the checkpoint has been chosen.
        """
        if self.importing.offer(path):
            return

        def add(found: tuple[Path, Card]) -> None:
            self._add(found)
            if then is not None:
                then()

        def failed(error: Exception) -> None:
            if isinstance(error, UndescribedError):
                self._descriptions.ask(path, lambda: self.use(path, then))
            else:
                report(error)

        self._workers.call(_with_card, path, returned=add, errored=failed)

    def known(self) -> dict[Path, Card]:
        """Return the cards of the checkpoints that have been read."""
        return dict(self._cards)

    def report_missing(self, name: str) -> None:
        """Report that the checkpoint of the labels was not found."""
        self.note.setText(
            f"The checkpoint {name} of these labels was not found. To continue them, "
            "choose it with Browse."
        )
        self.note.show()

    def suit(self, image: Image | None) -> None:
        """Choose a checkpoint that fits the image, unless the chosen one does."""
        self._image = image
        if self.path is not None:
            suited = self._suited(self.path, self._cards)
            self._select(suited) if suited != self.path else self._model_chosen()

    def _suited(self, path: Path, cards: dict[Path, Card]) -> Path:
        """Return the path if its checkpoint fits the image, or one of these that does.

        If none fits, the path is returned.
        """
        if self._image is None or fits(self._image, self._cards[path].spec):
            return path
        return closest(self._image, cards) or path

    def _fill_models(self) -> None:
        for entry in REGISTRY.values():
            self.model.addItem(entry.title, entry.name)
            tip = _method_tip(entry.name)
            row = self.model.count() - 1
            self.model.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
        self.model.setCurrentIndex(self.model.findData(DEFAULT_MODEL))

    def _offer_onnx(self) -> None:
        """Offer ONNX networks as a model once one is known."""
        known = any(card.model == ONNX for card in self._cards.values())
        if known and self.model.findData(ONNX) < 0:
            self.model.addItem(ONNX_TITLE, ONNX)

    def _found(self, found: Found) -> None:
        chosen = self.path is not None
        self._cards.update(dict(found))
        self._offer_onnx()
        self._model_chosen()
        if not chosen:
            self.suit(self._image)

    def _add(self, found: tuple[Path, Card]) -> None:
        path, card = found
        self._cards[path] = card
        self._offer_onnx()
        _remember(path)
        self._select(path)

    def _select(self, path: Path) -> None:
        """Choose a known checkpoint and its model."""
        row = self.model.findData(self._cards[path].model)
        if row >= 0 and row != self.model.currentIndex():
            self.model.setCurrentIndex(row)
        self._model_chosen()
        self.checkpoint.setCurrentIndex(self.checkpoint.findData(str(path)))

    def _model_chosen(self) -> None:
        name = self.model.currentData()
        self.model.setToolTip(_method_tip(name))
        before = self.path
        self.checkpoint.blockSignals(True)
        self.checkpoint.clear()
        own = self._ranked({p: c for p, c in self._cards.items() if c.model == name})
        for path, card in own.items():
            self._add_row(path, card)
        self._widen_list()
        if own and before is not None and before not in own:
            before = self._suited(next(iter(own)), own)
        self.checkpoint.setCurrentIndex(max(0, self.checkpoint.findData(str(before))))
        self.checkpoint.blockSignals(False)
        self._checkpoint_chosen()

    def _ranked(self, cards: dict[Path, Card]) -> dict[Path, Card]:
        """Return the checkpoints, those that fit the image best first."""
        if self._image is None:
            return cards
        return {path: cards[path] for path in ranked(self._image, cards)}

    def _misfit(self, card: Card) -> str:
        """Return why a checkpoint does not fit the image; empty if it does."""
        if self._image is None:
            return ""
        return describe_misfit(misfits(self._image, card.spec))

    def _add_row(self, path: Path, card: Card) -> None:
        """Add a checkpoint to the list, with the reasons why it does not fit."""
        image, name = self._image, card.name or path.stem
        reasons = () if image is None else misfits(image, card.spec)
        text = f"{name} – {'; '.join(reasons)}" if reasons else name
        self.checkpoint.addItem(text, str(path))
        row, tip = self.checkpoint.count() - 1, f"{path}\n{describe_misfit(reasons)}"
        self.checkpoint.setItemData(row, tip.strip(), Qt.ItemDataRole.ToolTipRole)

    def _widen_list(self) -> None:
        """Make the list as wide as its longest row; the box itself stays narrow."""
        view = required(self.checkpoint.view())
        view.setTextElideMode(Qt.TextElideMode.ElideRight)
        view.setMinimumWidth(min(LIST_WIDTH, view.sizeHintForColumn(0) + 24))

    def _checkpoint_chosen(self) -> None:
        card = self.card
        self.checkpoint.setEnabled(card is not None)
        self.show_card.setEnabled(card is not None)
        self.show_card.setToolTip(
            "Training data, classes, licence and metrics of the checkpoint."
            if card
            else "Choose a checkpoint first."
        )
        self.note.setText(
            self._misfit(card)
            if card
            else "No checkpoint of this model was found. Choose one with Browse, or "
            "train one with napari-uhrseg train."
        )
        self.note.setVisible(bool(self.note.text()))
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
    """Dialog that shows the card of a checkpoint."""

    def __init__(self, card: Card, path: Path, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Card of {card.name or path.name}")
        self.text = QTextBrowser()
        self.text.setOpenExternalLinks(True)
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
    """Return the card as a table with a row for each entry that is not empty."""
    spec, entry = card.spec, REGISTRY.get(card.model)
    views = ", ".join(f"{n} {v}" for n, v in spec.views.items())
    size = "unknown" if spec.pixel_size is None else format_length(spec.pixel_size)
    swatches = " ".join(
        f'<span style="color:{c.color}">■</span>&nbsp;{escape(c.name)}'
        for c in card.legend
    )
    rows: dict[str, Any] = {
        "File": path,
        "Model": card.model,
        "Method": entry.sentence if entry else "",
        "Published": entry.published if entry else "",
        "Arguments": ", ".join(f"{k}={v}" for k, v in card.arguments.items()),
        "Trained on": card.trained_on,
        "Encoder weights": card.encoder_weights,
        "Augmentation": card.augmentations,
        "Limitations": card.limitations,
        "Pixel size": size,
        "Input": f"windows of {spec.window} px; {views}",
        "Bands": spec.channels,
        "Value range": spec.describe_values(),
        "Metrics": ", ".join(
            f"{k} {formatted(v, '.3g')}" for k, v in card.metrics.items()
        ),
        "Source": card.source,
        "Licence": card.licence,
        "Citation": card.citation,
        "Command": card.command,
        "Fine-tuned from": card.parent or "",
    }
    lines = [
        f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{escape(str(v))}</td></tr>"
        for k, v in rows.items()
        if str(v)
    ]
    lines.append(f"<tr><td><b>Classes</b></td><td>{swatches}</td></tr>")
    return f"<table cellpadding=3>{''.join(lines)}</table>"


def _method_tip(name: str) -> str:
    """Return the description of a method, and its published results."""
    if name == ONNX:
        return ONNX_TIP
    entry = REGISTRY[name]
    return f"{entry.sentence}\nPublished: {entry.published}"


def _importable() -> str:
    """Return the titles of the models whose official files can be imported."""
    methods = methods_for(Path(f"weights{PICKLES[0]}"))
    return " or ".join(REGISTRY[name].title for name in methods)


def _find_checkpoints(recent: list[Path]) -> Found:
    """Return the sample and recent checkpoints that can be read."""
    from napari_uhrseg.errors import CheckpointError
    from napari_uhrseg.samples import data_dir

    samples = sorted(data_dir().rglob("*.safetensors"))
    found: Found = []
    for path in dict.fromkeys([*samples, *(p for p in recent if p.exists())]):
        try:
            found.append(_with_card(path))
        except CheckpointError:
            continue  # reported when the user chooses it
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
