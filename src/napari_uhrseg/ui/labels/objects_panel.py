"""Objects panel: the largest objects in a table, and a file of all objects."""

from collections.abc import Callable, Generator
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.types import Roi
from napari_uhrseg.ui.labels.measure_worker import MeasureWorker
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.layers.viewport import look_at
from napari_uhrseg.ui.widgets.class_list import swatch
from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.table import header_height, set_columns
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import counted, format_area, formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.measure.objects import Columns, LargestObjects

MOST = 500  # objects in the table
ROWS = 8  # rows that are visible without scrolling
SMALLEST_VIEW = 32  # pixels of the image that are shown around an object at least
FILES = "Tables (*.csv *.gpkg *.parquet)"


class ObjectsPanel(QWidget):
    """Table of the largest objects of the displayed labels.

    Parameters
    ----------
    viewer
        napari viewer.
    workers
        Workers of the panel.
    shown
        The displayed labels.
    image_of
        Function that returns the open image, or None. Its bands are measured for the
        file if it is the image of the labels.
    """

    def __init__(
        self,
        viewer: Any,
        workers: Workers,
        shown: LabelsSelection,
        image_of: "Callable[[], Image | None]",
    ) -> None:
        super().__init__()
        self._viewer, self._shown = viewer, shown
        self._image_of = image_of
        self.table = _table()
        self.table.itemClicked.connect(lambda item, _: self._go_to(item))
        self.table.itemActivated.connect(lambda item, _: self._go_to(item))
        self.list = push_button("List", clicked=self._list)
        self.save = push_button("Save table…", clicked=self._ask_for_file)
        self.status = note()
        self._worker = MeasureWorker(
            workers, self.list, self.status, "Measuring", self._idle
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.list)
        buttons.addWidget(self.save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        shown.changed.connect(self._labels_changed)
        self._labels_changed()

    def _labels_changed(self) -> None:
        """Remove the objects of other labels."""
        self._worker.quit()
        self.table.clear()
        self._idle("")

    # -- listing --------------------------------------------------------------

    def _list(self) -> None:
        if self._worker.stopped():
            return
        store = self._shown.store
        if store is not None:
            self._run(_largest, store, returned=partial(self._show, store))

    def _run(self, work: Any, *arguments: Any, returned: Callable[[Any], None]) -> None:
        self.save.setEnabled(False)
        self._worker.run(work, *arguments, returned=returned)

    def _show(self, store: "LabelStore", found: "LargestObjects") -> None:
        if store is not self._shown.store:
            return
        self.table.clear()
        colors = {c.id: c.color for c in store.legend}
        for texts, (class_id, at) in zip(
            _texts(found.rows), _places(found.rows), strict=True
        ):
            item = QTreeWidgetItem(self.table, texts)
            item.setIcon(0, swatch(colors[class_id]))
            item.setToolTip(0, texts[0])
            item.setData(0, Qt.ItemDataRole.UserRole, at)
            for column in range(1, len(texts)):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        listed = self.table.topLevelItemCount()
        if listed < found.count:
            self._worker.outcome = (
                f"The {formatted(listed)} largest of {formatted(found.count)} objects."
            )
        else:
            self._worker.outcome = (
                f"{counted(found.count, 'object')}, the largest first."
            )

    def _go_to(self, item: QTreeWidgetItem) -> None:
        """Show the surroundings of an object."""
        at = item.data(0, Qt.ItemDataRole.UserRole)
        if self._shown.layer is not None and at is not None:
            look_at(self._viewer, self._shown.layer, Roi(*at))

    # -- files ----------------------------------------------------------------

    def _ask_for_file(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Save objects", "objects.csv", FILES
        )
        if name:
            self.save_table(Path(name))

    def save_table(self, path: Path) -> None:
        """Write the table of all objects to a file, which is replaced."""
        store, image = self._shown.store, self._image_of()
        if store is None or self._worker.running:
            return
        if image is not None and image.fingerprint != store.info.fingerprint:
            image = None

        def saved(_: object) -> None:
            self._worker.outcome = f"Saved to {path}."

        self._run(_save, store, path, image, returned=saved)

    def _idle(self, status: str) -> None:
        there = self._shown.store is not None
        for button in (self.list, self.save):
            button.setEnabled(there)
        self.list.setText("List")
        self.list.setToolTip(f"Measure all objects, and list the {MOST} largest.")
        self.save.setToolTip(
            "Save a table of all objects as CSV, GeoPackage or Parquet, with the mean "
            "intensities of the image."
        )
        if not there:
            status = "There are no labels yet. Segment an image first."
        self.status.setText(status or "Press List for the largest objects.")


def _table() -> QTreeWidget:
    table = QTreeWidget()
    # short titles leave room for the names of the classes
    set_columns(table, ["Class", "Area", "Circ.", "Conf."])
    titles = required(table.headerItem())
    titles.setToolTip(2, "Circularity: 1 for a disk, less for other shapes.")
    titles.setToolTip(3, "Mean confidence of the prediction, 0 to 1.")
    table.setAccessibleName("Objects")
    table.setToolTip("Click an object to show it.")
    table.setRootIsDecorated(False)
    table.setMinimumHeight(header_height(table) + ROWS * 20)
    return table


def _texts(rows: "Columns") -> list[list[str]]:
    """Return the texts of the table."""
    units = {"area_m2": "m²", "area_um2": "µm²", "pixels": "px"}
    name = next(n for n in units if n in rows)
    columns = (rows[k].tolist() for k in ("class", name, "circularity",
                                          "mean_confidence"))  # fmt: skip
    return [
        [label, format_area(area, units[name]), _number(circularity), _number(sure)]
        for label, area, circularity, sure in zip(*columns, strict=True)
    ]


def _number(value: float) -> str:
    return "–" if value != value else formatted(value, ".2f")


def _places(rows: "Columns") -> list[tuple[int, tuple[int, int, int, int]]]:
    """Return the class of each object, and the y, x, height and width to show."""
    found = []
    columns = (rows[k].tolist() for k in ("class_id", "row", "column", "pixels"))
    for class_id, row, column, pixels in zip(*columns, strict=True):
        half = int(max(SMALLEST_VIEW, 3 * sqrt(pixels))) // 2
        at = int(row) - half, int(column) - half, 2 * half, 2 * half
        found.append((class_id, at))
    return found


def _largest(store: "LabelStore") -> "Generator[float, None, LargestObjects]":
    """Yield the progress, and return the largest objects."""
    from napari_uhrseg.io.measure.objects import LargestObjects, largest_objects

    found: LargestObjects | None = None
    for step in largest_objects(store, MOST):
        if isinstance(step, float):
            yield step
        else:
            found = step
    assert found is not None  # the last step
    return found


def _save(
    store: "LabelStore", path: Path, image: "Image | None"
) -> Generator[float, None, None]:
    from napari_uhrseg.io.measure.object_files import write_objects

    yield from write_objects(store, path, image, overwrite=True)
