"""Dialog that asks for the description of an ONNX network once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.models.onnx.card import card_path, default_legend, write_card
from napari_uhrseg.models.onnx.description import (
    NetworkDescription,
    deepness_description,
    named_legend,
)
from napari_uhrseg.models.onnx.graph import read_graph
from napari_uhrseg.types import ValueRange
from napari_uhrseg.ui.widgets.layout import add_row, form_of, note
from napari_uhrseg.ui.widgets.number_text import local, number_list, split_numbers
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Workers


@dataclass(frozen=True, slots=True)
class Statement:
    """Description of an ONNX network by its own file, and numbered classes."""

    path: Path
    description: NetworkDescription
    numbered: str


def read_statement(path: Path) -> Statement:
    """Return the description that an ONNX network contains.

    Raises
    ------
    CheckpointError
        If it cannot be run.
    """
    graph = read_graph(path)
    legend = default_legend(graph)
    names = ", ".join(c.name for c in legend) if legend else ""
    return Statement(path, deepness_description(path, graph), names)


class OnnxDescriptionDialog(QDialog):
    """Dialog for the classes and the input of an ONNX network."""

    def __init__(self, statement: Statement, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        path, known = statement.path, statement.description
        self.setWindowTitle(f"Describe {path.name}")
        names = [c.name for c in known.legend or ()]
        self._known = known
        self.names = _line(", ".join(names) or statement.numbered)
        self.names.setToolTip(
            "Names of the classes in the order of the outputs, separated by commas."
        )
        self.side = _line(known.window, "for example 512")
        self.overlap = _line(known.overlap, "an eighth of the window")
        self.pixel_size = _line(_decimal(known.pixel_size), "unknown")
        self.value_range = _line(_joined(known.value_range), "those of each image")
        self.value_range.setToolTip("Image values that become 0 and 1, such as 0, 255.")
        self.mean = _line(_joined(known.mean), "0 for each band")
        self.std = _line(_joined(known.std), "1 for each band")
        self.threshold = _line(
            _decimal(known.threshold), local("0.5 for one output, else none")
        )
        words = note()
        words.setText(
            f"{path.name} does not state all that a run needs. The answers are stored "
            f"beside it, as {card_path(path).name}."
        )
        self.problem = note()
        self.problem.hide()
        self._lay_out(words)

    def _lay_out(self, words: QWidget) -> None:
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        ok = required(buttons.button(QDialogButtonBox.StandardButton.Ok))
        ok.setText("&Save description")
        buttons.accepted.connect(self._check)
        buttons.rejected.connect(self.reject)
        fields = QWidget()
        form = form_of(fields)
        add_row(form, "&Classes", self.names)
        add_row(form, "&Window (px)", self.side)
        add_row(form, "&Overlap (px)", self.overlap)
        add_row(form, "&Pixel size (m)", self.pixel_size)
        add_row(form, "&Value range", self.value_range)
        add_row(form, "&Mean", self.mean)
        add_row(form, "S&tandard deviation", self.std)
        add_row(form, "T&hreshold", self.threshold)
        layout = QVBoxLayout(self)
        for part in (words, fields, self.problem, buttons):
            layout.addWidget(part)
        self.resize(460, self.sizeHint().height())

    def description(self) -> NetworkDescription:
        """Return the description in the fields.

        Raises
        ------
        ValueError
            If a field is not a number, or the names are not different.
        """
        names = tuple(n.strip() for n in self.names.text().split(",") if n.strip())
        if not names:
            raise ValueError("there are no names of classes")
        known = self._known.legend
        same = known is not None and names == tuple(c.name for c in known)
        window, overlap = _numbers(self.side), _numbers(self.overlap)
        return NetworkDescription(
            legend=known if same else named_legend(names),
            window=int(window[0]) if window else None,
            overlap=int(overlap[0]) if overlap else None,
            pixel_size=(_numbers(self.pixel_size) or (None,))[0],
            value_range=_numbers(self.value_range),
            mean=_numbers(self.mean),
            std=_numbers(self.std),
            threshold=(_numbers(self.threshold) or (None,))[0],
        )

    def _check(self) -> None:
        """Accept the fields, or state what is wrong with them."""
        try:
            self.description()
        except ValueError as error:
            self.problem.setText(f"The description is not complete: {error}.")
            self.problem.show()
            return
        self.accept()


class OnnxDescriptions:
    """Questions for descriptions of ONNX networks, and their answers."""

    def __init__(self, parent: QWidget, workers: Workers) -> None:
        self._window, self._workers = parent, workers

    def ask(self, path: Path, then: Callable[[], None]) -> None:
        """Ask for the description of a network, and store it; call ``then``."""

        def opened(statement: Statement) -> None:
            dialog = OnnxDescriptionDialog(statement, self._window)
            dialog.accepted.connect(lambda: store(dialog.description()))
            dialog.open()

        def store(description: NetworkDescription) -> None:
            self._workers.call(write_card, path, description, returned=lambda _: then())

        self._workers.call(read_statement, path, returned=opened)


def _line(value: object = None, placeholder: str = "") -> QLineEdit:
    """Return a field with a value, or with a placeholder."""
    made = QLineEdit("" if value is None else str(value))
    made.setPlaceholderText(placeholder)
    return made


def _decimal(value: float | None) -> str | None:
    return None if value is None else local(str(value))


def _joined(values: ValueRange | None) -> str | None:
    return None if values is None else number_list(float(f"{v:g}") for v in values)


def _numbers(line: QLineEdit) -> tuple[float, ...] | None:
    """Return the numbers of a field; None if it is empty."""
    text = line.text().strip()
    if not text:
        return None
    try:
        return tuple(float(part) for part in split_numbers(text))
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
