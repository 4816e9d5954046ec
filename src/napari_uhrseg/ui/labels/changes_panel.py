"""Changes panel: compare the displayed labels with those of an earlier date."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.ui.labels.change_layer import CHANGES, change_layer, change_levels
from napari_uhrseg.ui.labels.measure_worker import MeasureWorker
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.layers.label_layers import STORE
from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, note, push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.table import header_height, set_columns
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import format_area, formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.measure.changes import ChangeMap, Transitions

ROWS = 8  # rows that are visible without scrolling
FILES = "Matrix (*.csv);;Map of changes (*.tif *.gpkg *.geojson)"
IDLE = (
    "Choose labels of the same place at an earlier date, and press Compare. The "
    "displayed labels are those of the later date."
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Labels of two dates, their transitions, and the levels of the map of changes."""

    stores: "tuple[LabelStore, LabelStore]"
    transitions: "Transitions"
    changes: "ChangeMap"
    levels: list[Any]


class ChangesPanel(QWidget):
    """Transition matrix and map of the changes since an earlier date.

    Parameters
    ----------
    viewer
        napari viewer.
    workers
        Workers of the panel.
    shown
        The displayed labels, those of the later date.
    """

    def __init__(self, viewer: Any, workers: Workers, shown: LabelsSelection) -> None:
        super().__init__()
        self._viewer, self._shown = viewer, shown
        self._found: Comparison | None = None
        self.earlier = combo("Labels of the earlier date.")
        browse = push_button("…", "Choose a label store (.zarr).", self._browse)
        browse.setAccessibleName("Choose labels of the earlier date")
        browse.setMaximumWidth(32)
        self.table = _table()
        self.compare = push_button("Compare", clicked=self._compare)
        self.save = push_button(
            "Save…",
            "Save the matrix as CSV, or the map of changes.",
            self._ask_for_file,
        )
        self.status = note()
        self._worker = MeasureWorker(
            workers, self.compare, self.status, "Comparing", self._idle
        )
        rows = QWidget()
        add_row(form_of(rows), "Earlier", self.earlier, browse)
        buttons = QHBoxLayout()
        buttons.addWidget(self.compare)
        buttons.addWidget(self.save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(rows)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        self._events = viewer.layers.events.inserted, viewer.layers.events.removed
        for event in self._events:
            event.connect(self._list_layers)
        self.earlier.currentIndexChanged.connect(lambda _: self._idle())
        shown.changed.connect(self._labels_changed)
        self._labels_changed()

    def stop(self) -> None:
        """Disconnect from the viewer."""
        for event in self._events:
            event.disconnect(self._list_layers)

    # -- labels of the two dates ----------------------------------------------

    def use(self, path: Path) -> None:
        """Choose a label store as that of the earlier date."""
        row = self.earlier.findData(str(path))
        if row < 0:
            self.earlier.addItem(path.name, str(path))
            row = self.earlier.count() - 1
        self.earlier.setCurrentIndex(row)

    def _browse(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Labels of the earlier date")
        if name:
            self.use(Path(name))

    def _labels_changed(self) -> None:
        """Remove the changes of other labels."""
        self._worker.quit()
        self._found = None
        self.table.clear()
        self._list_layers()
        self._idle(IDLE)

    def _list_layers(self, *_: object) -> None:
        """Offer the other labels in the viewer, and keep the chosen files."""
        box, before = self.earlier, self.earlier.currentData()
        files = [
            box.itemData(i)
            for i in range(box.count())
            if isinstance(box.itemData(i), str)
        ]
        box.blockSignals(True)
        box.clear()
        for layer in self._viewer.layers:
            store = layer.metadata.get(STORE)
            is_labels = type(layer).__name__ == "Labels"
            if is_labels and store is not None and store is not self._shown.store:
                box.addItem(layer.name, layer)
        for name in files:
            box.addItem(Path(name).name, name)
        box.setCurrentIndex(max(0, box.findData(before)))
        box.blockSignals(False)
        self._idle()

    def _earlier(self) -> "LabelStore | Path | None":
        chosen = self.earlier.currentData()
        if chosen is None:
            return None
        return Path(chosen) if isinstance(chosen, str) else chosen.metadata[STORE]

    # -- comparison -----------------------------------------------------------

    def _compare(self) -> None:
        if self._worker.stopped():
            return
        later, earlier = self._shown.store, self._earlier()
        if later is not None and earlier is not None:
            self._run(_compared, earlier, later, returned=self._show)

    def _run(self, work: Any, *arguments: Any, returned: Callable[[Any], None]) -> None:
        self.save.setEnabled(False)
        self._worker.run(work, *arguments, returned=returned)

    def _show(self, found: Comparison) -> None:
        """Show the matrix, and the map of changes as a layer."""
        if found.stores[1] is not self._shown.store:
            return
        self._found, matrix = found, found.transitions
        self.table.clear()
        set_columns(self.table, ["from, to", *matrix.names])
        header = required(self.table.header())
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for name, row in zip(matrix.names, matrix.areas.tolist(), strict=True):
            texts = [format_area(v, matrix.unit) if v else "–" for v in row]
            item = QTreeWidgetItem(self.table, [name, *texts])
            for column in range(1, len(texts) + 1):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        share = matrix.changed / matrix.compared if matrix.compared else 0.0
        self._worker.outcome = (
            f"Changed: {format_area(matrix.changed, matrix.unit)} "
            f"({formatted(share, '.1%')} of the area with a class at both dates)."
        )
        for layer in [x for x in self._viewer.layers if CHANGES in x.metadata]:
            self._viewer.layers.remove(layer)
        chosen = self._viewer.layers.selection.active
        made = change_layer(found.changes, found.levels, self._shown.layer)
        self._viewer.add_layer(made)
        self._viewer.layers.selection.active = chosen

    # -- files ----------------------------------------------------------------

    def _ask_for_file(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Save changes", "changes.csv", FILES
        )
        if name:
            self.save_file(Path(name))

    def save_file(self, path: Path) -> None:
        """Save the matrix (CSV) or the map of changes; an existing file is replaced."""
        if self._found is None or self._worker.running:
            return

        def saved(_: object) -> None:
            self._worker.outcome = f"Saved to {path}."

        self._run(_saved, self._found, path, returned=saved)

    # -- display --------------------------------------------------------------

    def _idle(self, status: str = "") -> None:
        """Enable the buttons that can be used, unless a comparison runs."""
        if self._worker.running:
            return
        both = self._shown.store is not None and self._earlier() is not None
        self.compare.setText("Compare")
        self.compare.setEnabled(both)
        self.compare.setToolTip(
            "Count the transitions of every pixel, and show the map of changes."
            if both
            else "Show labels, and choose those of an earlier date."
        )
        self.save.setEnabled(self._found is not None)
        if status:
            self.status.setText(status)


def _table() -> QTreeWidget:
    table = QTreeWidget()
    set_columns(table, ["from, to"])
    table.setAccessibleName("Transitions")
    table.setToolTip(
        "Area by class: rows are classes of the earlier date, columns of the later one."
    )
    table.setRootIsDecorated(False)
    table.setMinimumHeight(header_height(table) + ROWS * 20)
    return table


def _compared(
    earlier: "LabelStore | Path", later: "LabelStore"
) -> Generator[float, None, Comparison]:
    """Yield the progress, and return the comparison."""
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.measure.changes import (
        ChangeMap,
        Transitions,
        check_comparable,
        compare_labels,
    )

    opened = LabelStore.open(earlier) if isinstance(earlier, Path) else earlier
    check_comparable(opened, later)
    found: Transitions | None = None
    for step in compare_labels(opened, later):
        if isinstance(step, float):
            yield step
        else:
            found = step
    assert found is not None  # the last step
    changes = ChangeMap(opened, later, found, unchanged=False)
    return Comparison((opened, later), found, changes, change_levels(changes))


def _saved(found: Comparison, path: Path) -> Generator[float, None, None]:
    """Write the matrix or the map, by the suffix of the path."""
    from napari_uhrseg.io.export import atomic_target
    from napari_uhrseg.io.measure.changes import write_changes

    if path.suffix.lower() != ".csv":
        yield from write_changes(found.stores, found.transitions, path, overwrite=True)
        return
    with atomic_target(path.absolute(), overwrite=True) as building:
        building.write_text(found.transitions.to_csv(), encoding="utf-8")
    yield 1.0
