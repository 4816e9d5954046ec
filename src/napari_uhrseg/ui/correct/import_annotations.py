"""Import of corrections from files of polygons and masks."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.types import COLORS, LabelClass, Legend, Numbering
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.widgets.class_list import swatch
from napari_uhrseg.ui.widgets.layout import combo, note
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Worker, Workers
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.mask_import import MaskClass, MaskReader
    from napari_uhrseg.io.corrections.polygon_features import ImportedPolygons
    from napari_uhrseg.io.labels.store import LabelStore

SKIP = "– skip –"
POLYGONS = "Polygons (*.geojson *.json *.gpkg *.shp)"
MASKS = "Masks (*.png *.tif *.tiff *.jp2 *.vrt);;All files (*)"

# readings of the values of a mask that names no classes
NUMBERINGS: dict[Numbering, str] = {
    "ids": "class ids",
    "training": "values of the training masks",
}


@dataclass(frozen=True, slots=True)
class Row:
    """Value of a file, with its text, its amount, and the name of the proposed class.

    ``name`` is None if no class is proposed. ``color`` is the colour in the file.
    """

    key: Any
    text: str
    amount: str
    name: str | None
    color: str | None = None


class ClassTable(QDialog):
    """Dialog that chooses the class of each value in a file.

    ``readings`` has the proposed class of each row by reading, of which the user
    chooses one. Without readings, the rows have the proposals.
    """

    def __init__(
        self,
        title: str,
        rows: list[Row],
        names: list[str],
        parent: QWidget,
        readings: Mapping[str, list[str | None]] | None = None,
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(title)
        self.rows = rows
        self.boxes = [_class_box(row, names) for row in rows]
        self.table = self._class_table()
        layout = QVBoxLayout(self)
        words = note()
        layout.addWidget(words)
        if readings:
            words.setText(
                "The file does not name its classes. Choose the meaning of its values, "
                "or the class of each value."
            )
            layout.addWidget(self._reading_box(readings))
        else:
            words.setText(
                "Choose the class of each value in the file, or type a new class name."
            )
        layout.addWidget(self.table)
        layout.addWidget(self._buttons())
        self.resize(460, min(480, 190 + 30 * len(rows)))

    def _class_table(self) -> QTreeWidget:
        """Return a table of the rows, with the box of each row in the last column."""
        table = QTreeWidget()
        table.setColumnCount(3)
        table.setHeaderLabels(["In the file", "Amount", "Class"])
        table.setRootIsDecorated(False)
        table.setAccessibleName("Classes of the file")
        table.setToolTip("Values in the file and the classes they become.")
        header = required(table.header())
        for column in (0, 1):
            mode = QHeaderView.ResizeMode.ResizeToContents
            header.setSectionResizeMode(column, mode)
        for row, box in zip(self.rows, self.boxes, strict=True):
            item = QTreeWidgetItem([row.text, row.amount])
            if row.color is not None:
                item.setIcon(0, swatch(row.color))
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
            table.addTopLevelItem(item)
            table.setItemWidget(item, 2, box)
        return table

    def _buttons(self) -> QDialogButtonBox:
        """Return the buttons Import and Cancel."""
        button = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(button.Ok | button.Cancel)
        required(buttons.button(button.Ok)).setText("&Import")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        return buttons

    def _reading_box(self, readings: Mapping[str, list[str | None]]) -> QWidget:
        """Return a box whose readings fill the boxes of the rows."""
        self.reading = combo("Meaning of the values in the file.")
        self.reading.setAccessibleName("Meaning of the values")
        self.reading.addItem("Values are…", [row.name for row in self.rows])
        for text, proposed in readings.items():
            self.reading.addItem(f"Values are {text}", proposed)

        def propose() -> None:
            proposed = self.reading.currentData()
            for box, name in zip(self.boxes, proposed, strict=True):
                box.setCurrentText(name or SKIP)

        self.reading.currentIndexChanged.connect(lambda _: propose())
        return self.reading

    def chosen(self) -> dict[Any, str]:
        """Return the class name of each row by the row's key, without skipped rows."""
        texts = (box.currentText().strip() for box in self.boxes)
        pairs = zip(self.rows, texts, strict=True)
        return {row.key: text for row, text in pairs if text not in ("", SKIP)}


def _class_box(row: Row, names: list[str]) -> QComboBox:
    """Return an editable box with the class of a row."""
    box = combo()
    box.setEditable(True)
    box.setAccessibleName(f"Class of {row.text}")
    box.addItems([SKIP, *names])
    box.setCurrentText(row.name or SKIP)
    required(box.lineEdit()).setCursorPosition(0)  # show the start of a long name
    return box


class AnnotationImport(QObject):
    """Import that asks for a file, reads it on a worker thread and asks for classes.

    ``ready`` emits the view of the labels and a function. The function takes the
    corrections of this view, changes them, and yields its progress from 0 to 1.
    """

    ready = Signal(object, object)
    began = Signal(str, str)  # title of the progress bar, and tooltip of Stop
    progressed = Signal(float)
    ended = Signal()
    imported = Signal(str)  # result of a finished import; emitted by its thread

    def __init__(self, parent: QWidget, workers: Workers) -> None:
        super().__init__(parent)
        self._window, self._workers = parent, workers
        self._worker: Worker | None = None
        self.imported.connect(self._show_result)

    def ask(self, what: str, view: LabelsView, class_id: int) -> None:
        """Ask for a file and import it.

        Parameters
        ----------
        what
            Kind of the file: "polygons" or "mask".
        view
            Labels to correct.
        class_id
            Class id of polygons that name no class.
        """
        kinds = POLYGONS if what == "polygons" else MASKS
        title = f"Choose {'polygons' if what == 'polygons' else 'a mask'} to import"
        name, _ = QFileDialog.getOpenFileName(self._window, title, "", kinds)
        if name:
            self.read(what, Path(name), view, class_id)

    def read(self, what: str, path: Path, view: LabelsView, class_id: int) -> None:
        """Read a file, then ask for the classes of its values.

        Parameters
        ----------
        what
            Kind of the file: "polygons" or "mask".
        path
            File to read.
        view
            Labels to correct.
        class_id
            Class id of polygons that name no class.
        """
        if what == "polygons":
            self._worker = self._workers.call(
                _polygons, path, view.store,
                returned=lambda found: self._ask_polygons(path, found, view, class_id),
                finished=self._ended,
            )  # fmt: skip
            return
        self.began.emit(f"Reading {path.name}", "Stop. Nothing has been changed.")
        self._worker = self._workers.start(
            _scanned, path, view.store,
            yielded=self.progressed.emit,
            returned=lambda found: self._ask_mask(path, found, view),
            finished=self._ended,
        )  # fmt: skip

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.quit()

    def _show_result(self, text: str) -> None:
        show_info(text)

    def _ended(self) -> None:
        self._worker = None
        self.ended.emit()

    def _ask_polygons(
        self,
        path: Path,
        found: "ImportedPolygons",
        view: LabelsView,
        class_id: int,
    ) -> None:
        for text in found.notes(view.store.name):
            show_warning(text)
        rows = _rows_of(found, view, class_id)

        def begin(names: Mapping[Any, str], ids: Mapping[str, int]) -> None:
            pairs = [(p, ids[names[n]]) for p, n in found.polygons if n in names]
            left = [r for r in rows if r.key not in names]
            self._begin(path, view, lambda c: c.fill_all(pairs), left)

        self._show(path, rows, view, begin)

    def _ask_mask(
        self,
        path: Path,
        scanned: "Scanned",
        view: LabelsView,
    ) -> None:
        mask, classes, readings = scanned
        rows = [
            Row(
                c.value,
                c.color or str(c.value),
                f"{formatted(c.pixels)} px",
                c.name,
                c.color,
            )
            for c in classes
        ]

        def begin(names: Mapping[Any, str], ids: Mapping[str, int]) -> None:
            table = {value: ids[name] for value, name in names.items()}
            left = [r for r in rows if r.key not in names]
            self._begin(path, view, lambda c: c.import_labels(mask, table), left)

        self._show(path, rows, view, begin, readings)

    def _begin(
        self,
        path: Path,
        view: LabelsView,
        change: "Callable[[Corrections], Iterator[float]]",
        left: list[Row],
    ) -> None:
        """Emit `ready` with a change that reports its pixels and what it left out."""

        def counted(corrections: "Corrections") -> Iterator[float]:
            before = corrections.counts()
            yield from change(corrections)
            after, legend = corrections.counts(), view.store.legend
            changes = {c.name: after.get(c.id, 0) - before.get(c.id, 0) for c in legend}
            parts = [
                f"{name!r} {formatted(n, '+,')} px" for name, n in changes.items() if n
            ]
            text = f"Imported {path.name}: {', '.join(parts) or 'no pixel changed'}."
            if left:
                skipped = ", ".join(f"{r.text!r} ({r.amount})" for r in left)
                text += f" Left out: {skipped}."
            self.imported.emit(text)

        self.ready.emit(view, counted)

    def _show(
        self,
        path: Path,
        rows: list[Row],
        view: LabelsView,
        begin: Callable[[Mapping[Any, str], Mapping[str, int]], None],
        readings: Mapping[str, list[str | None]] | None = None,
    ) -> None:
        names, title = [c.name for c in view.classes], f"Import {path.name}"
        dialog = ClassTable(title, rows, names, self._window, readings)

        def accepted() -> None:
            chosen = dialog.chosen()
            if not chosen:
                return
            colors = {chosen[r.key]: r.color for r in rows if r.key in chosen}
            self._workers.call(
                _class_ids, view.store, colors,
                returned=lambda ids: begin(chosen, ids),
            )  # fmt: skip

        dialog.accepted.connect(accepted)
        dialog.open()


def _rows_of(found: "ImportedPolygons", view: LabelsView, class_id: int) -> list[Row]:
    """Return a row for each class of polygons; ``class_id`` is for those without."""
    counts = Counter(name for _, name in found.polygons)
    chosen = next((c.name for c in view.classes if c.id == class_id), None)
    rows = []
    for name, count in counts.items():
        known = view.legend.named(name) if name else None
        proposed = known.name if known else name or chosen
        amount = "1 shape" if count == 1 else f"{formatted(count)} shapes"
        rows.append(Row(name, name or "(no class)", amount, proposed))
    return rows


def _polygons(path: Path, store: "LabelStore") -> "ImportedPolygons":
    from napari_uhrseg.io.corrections.polygon_import import read_polygon_file

    return read_polygon_file(path, store)


Scanned = tuple["MaskReader", "tuple[MaskClass, ...]", dict[str, list[str | None]]]


def _scanned(path: Path, store: "LabelStore") -> Generator[float, None, Scanned]:
    """Yield the share that is read; return the mask, its classes and readings."""
    from napari_uhrseg.io.corrections.mask_import import MaskReader

    mask = MaskReader.open(path, store)
    yield from mask.scan()
    readings: dict[str, list[str | None]] = {}
    if mask.is_ambiguous(store.legend):
        for numbering in NUMBERINGS:
            found = mask.classes(store.legend, numbering=numbering)
            readings[NUMBERINGS[numbering]] = [c.name for c in found]
    return mask, mask.classes(store.legend), readings


def _class_ids(store: "LabelStore", colors: Mapping[str, str | None]) -> dict[str, int]:
    """Return class ids by name. Add new classes in the colours of the file."""
    new = [name for name in colors if store.legend.named(name) is None]
    if new:
        taken = [c for c in COLORS if c not in {k.color for k in store.legend}]
        spare = (taken or list(COLORS)) * len(new)
        made = Legend(tuple(
            LabelClass(i + 1, name, colors[name] or spare[i])
            for i, name in enumerate(new)
        ))  # fmt: skip
        store.acquire()
        try:
            store.legend_editor.add_classes(made)
        finally:
            store.release()
    found = {name: store.legend.named(name) for name in colors}
    return {
        name: store.aliases.get(c.id, c.id)
        for name, c in found.items()
        if c is not None
    }
