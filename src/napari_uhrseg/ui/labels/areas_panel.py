"""Areas panel: estimated areas of the classes, and exact ones on demand."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.errors import ExportError, PlanError
from napari_uhrseg.ui.labels.area_workers import (
    Place,
    count_areas,
    drawn_annotations,
    estimate_areas,
    share_suffixes,
    write_shares,
)
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.layers.region_layer import region_layer
from napari_uhrseg.ui.layers.viewport import (
    ANNOTATIONS,
    REGIONS,
    drawn_regions,
    view_rectangle,
)
from napari_uhrseg.ui.segment.output import VIEW, WHOLE, RegionPicker
from napari_uhrseg.ui.widgets.class_list import swatch
from napari_uhrseg.ui.widgets.layout import add_row, form_of, note, push_button
from napari_uhrseg.ui.widgets.table import header_height, set_columns
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import format_area, formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.polygon_features import ImportedPolygons
    from napari_uhrseg.io.export.class_areas import AreaTable, ClassArea
    from napari_uhrseg.io.labels.store import LabelStore

FILE = "uhrseg_file"  # metadata key: file of the regions of a layer
TABLES = "Tables (*.csv)"
NO_LABELS = "There are no labels yet. Segment an image first."
EVERY = 1000  # ms between two checks for changed labels
ROWS = 8  # rows that are visible without scrolling


class AreasPanel(QWidget):
    """Table of class areas for the image, the view, or each drawn region."""

    def __init__(self, viewer: Any, workers: Workers, shown: LabelsSelection) -> None:
        super().__init__()
        self._viewer, self._workers, self._shown = viewer, workers, shown
        self._looking: Worker | None = None
        self._counting: Worker | None = None
        self._seen: object = None  # key of the labels that the table describes
        self._counted: tuple[AreaTable, ...] = ()
        self._saving: Path | None = None
        self._outcome = ""  # of what has just been saved
        self._counted_store: LabelStore | None = None
        self.where = RegionPicker(viewer)
        self.where.setToolTip("For regions, draw shapes in a Shapes layer.")
        self.table = _table()
        self.count = push_button("Count", clicked=self._count)
        self.save = push_button("Save…", clicked=self._ask_for_file)
        self.regions = push_button(
            "Regions…",
            "Import regions from a file of polygons. Each feature gets its own rows.",
            self._ask_for_regions,
        )
        self.status = note()
        rows = QWidget()
        add_row(form_of(rows), "Areas of", self.where)
        buttons = QHBoxLayout()
        for button in (self.count, self.save, self.regions):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(rows)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(EVERY)
        shown.changed.connect(self._labels_changed)
        self.where.changed.connect(self.look)
        self._idle(NO_LABELS)

    def stop(self) -> None:
        """Stop the timer and disconnect from the viewer."""
        with suppress(RuntimeError):  # Qt may have deleted it with the window
            self._timer.stop()
        self.where.stop()

    def choices(self) -> dict[str, Any]:
        """Return the choice of the area, unless it is a layer, for the session."""
        choice = self.where.currentData()
        return {"areas_of": choice} if choice in (WHOLE, VIEW) else {}

    def set_choices(self, values: Mapping[str, Any]) -> None:
        """Show what `choices` has returned; unknown values have no effect."""
        row = self.where.findData(str(values.get("areas_of")))
        if row >= 0:
            self.where.setCurrentIndex(row)

    def showEvent(self, event: QShowEvent | None) -> None:
        super().showEvent(event)
        self.look()

    def _labels_changed(self) -> None:
        """Remove the areas of other labels, and estimate those of the shown ones."""
        if self._counting is not None:
            if self._saving is None:
                self._counting.quit()
            return  # until the count ends
        self._seen, self._counted = None, ()
        self.table.clear()
        self._idle("" if self._shown.store is not None else NO_LABELS)
        if self._shown.store is not None:
            self.status.setText("Estimating the areas…")
        self.look()

    def look(self) -> None:
        """Estimate the areas again if the labels or regions have changed."""
        if self._looking is not None or self._counting is not None:
            return
        if not self.isVisible():
            return
        try:
            place = self._place()
        except PlanError as error:
            self._seen, self._counted = None, ()  # labels that return are shown again
            self.table.clear()
            self._idle(str(error))
            return
        self._looking = self._workers.call(
            estimate_areas,
            place,
            self._seen,
            returned=partial(self._estimated, place[0]),
            finished=partial(self._looked, place[0]),
        )

    def _place(self) -> Place:
        """Return the store and the chosen regions; raise PlanError without any."""
        store, layer, choice = (
            self._shown.store,
            self._shown.layer,
            self.where.currentData(),
        )
        if store is None:
            raise PlanError(NO_LABELS)
        if choice == WHOLE:
            return store, ((None, "image"),)
        if choice == VIEW:
            seen = view_rectangle(self._viewer, layer)
            if seen is None:
                raise PlanError("The image is not in view.", "Move it into view.")
            return store, ((seen, "view"),)
        if REGIONS in choice.metadata:
            return store, choice.metadata[REGIONS]
        drawn = drawn_regions(self._viewer, choice, layer)
        return store, tuple((region, str(i)) for i, region in enumerate(drawn, 1))

    # -- estimates ------------------------------------------------------------

    def _estimated(self, store: "LabelStore", found: Any) -> None:
        if found is not None and store is self._shown.store:
            self._seen, tables = found
            self._counted = ()
            self._show(tables)
            self._idle()

    def _looked(self, store: "LabelStore") -> None:
        self._looking = None
        if store is not self._shown.store:
            self.look()

    # -- counting -------------------------------------------------------------

    def _count(self) -> None:
        if self._counting is not None:
            self._counting.quit()
            self.status.setText("Stopping…")
            return
        try:
            place = self._place()
        except PlanError as error:
            self._saving = None
            report(error)
            return
        self._show_counting(place[0])
        self._counting = self._workers.start(
            count_areas,
            place,
            yielded=self._say_share,
            returned=self._has_counted,
            finished=self._count_ended,
        )

    def _show_counting(self, store: "LabelStore") -> None:
        self.count.setText("Stop")
        self.count.setToolTip("Stop counting.")
        self.save.setEnabled(False)
        self._counted_store = store

    def _say_share(self, done: float) -> None:
        self.status.setText(f"Counting: {formatted(done, '.0%')}")

    def _has_counted(self, found: Any) -> None:
        self._seen, self._counted = found
        self._show(self._counted)

    def _count_ended(self) -> None:
        self._counting = None
        self._idle()
        if self._outcome:
            self.status.setText(self._outcome)
            self._outcome = ""
        path, self._saving = self._saving, None
        if path is not None and self._counted:
            self._write(path)
        if self._counted_store is not self._shown.store:
            self._labels_changed()

    # -- files ----------------------------------------------------------------

    def _ask_for_file(self) -> None:
        kinds = TABLES
        if self.where.currentData() not in (WHOLE, VIEW):
            suffixes = " ".join(f"*{s}" for s in share_suffixes(self._regions_file()))
            kinds = f"{TABLES};;Regions with class shares ({suffixes})"
        name, _ = QFileDialog.getSaveFileName(self, "Save areas", "areas.csv", kinds)
        if not name:
            return
        path = Path(name)
        if ";;" in kinds and path.suffix.lower() != ".csv":
            self.save_shares(path)
        else:
            self.save_csv(path)

    def _regions_file(self) -> Path | None:
        """Return the file of the chosen regions; None for others."""
        metadata = getattr(self.where.currentData(), "metadata", {})
        return metadata.get(FILE) if REGIONS in metadata else None

    def save_shares(self, path: Path) -> None:
        """Write the chosen regions with their class shares; replace the file.

        Regions of a file become a copy of it, and others get a new file. The pixels are
        counted again.
        """
        if self._counting is not None:
            return
        try:
            store, named = self._place()
        except PlanError as error:
            report(error)
            return
        metadata = getattr(self.where.currentData(), "metadata", {})
        kept = metadata.get(ANNOTATIONS) or drawn_annotations(named)
        self._show_counting(store)
        self._counting = self._workers.start(
            write_shares,
            store,
            self._regions_file() or kept,
            path,
            yielded=self._say_share,
            returned=lambda notes: self._saved_shares(path, notes),
            finished=self._count_ended,
        )

    def _saved_shares(self, path: Path, notes: tuple[str, ...]) -> None:
        for text in notes:
            show_warning(text)
        self._outcome = f"Saved to {path}."

    def save_csv(self, path: Path) -> None:
        """Write the tables to a file, and count first if needed; replace the file."""
        try:
            self._place()  # the counted labels may be closed
        except PlanError as error:
            report(error)
            return
        if self._counted:
            self._write(path)
            return
        self._saving = path
        self._count()

    def _write(self, path: Path) -> None:
        from napari_uhrseg.io.export import atomic_target
        from napari_uhrseg.io.export.class_areas import to_csv

        try:
            with atomic_target(path.absolute(), overwrite=True) as building:
                building.write_text(to_csv(self._counted), encoding="utf-8")
        except ExportError as error:
            report(error)
        else:
            self.status.setText(f"Saved to {path}.")

    def _ask_for_regions(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Regions", "", "Polygons (*.geojson *.json *.gpkg *.shp)"
        )
        if name:
            self.import_regions(Path(name))

    def import_regions(self, path: Path) -> None:
        """Show a file's polygons as a Shapes layer and use them as regions."""
        from napari_uhrseg.io.corrections.polygon_import import read_polygon_file

        store = self._shown.store
        if store is not None:
            self._workers.call(
                read_polygon_file, path, store,
                returned=lambda found: self._add_regions(path, found),
            )  # fmt: skip

    def _add_regions(self, path: Path, found: "ImportedPolygons") -> None:
        layer = self._shown.layer
        for text in found.notes(layer.name):
            show_warning(text)
        polygons = [polygon for polygon, _ in found.polygons]
        shapes = region_layer(polygons, layer, path.stem)
        self._viewer.add_layer(shapes)
        shapes.metadata[FILE] = path
        shapes.metadata[REGIONS] = tuple((f.region, f.title) for f in found.features)
        # after a change of the shapes, the regions are the drawn shapes
        shapes.events.data.connect(lambda _: shapes.metadata.pop(REGIONS, None))
        self.where.setCurrentIndex(self.where.findData(shapes))

    # -- display --------------------------------------------------------------

    def _show(self, tables: "tuple[AreaTable, ...]") -> None:
        self.table.clear()
        for table in tables:
            parent: Any = self.table
            if len(tables) > 1:
                parent = QTreeWidgetItem(self.table, [table.region])
                parent.setExpanded(True)
            for row in table.rows:
                item = QTreeWidgetItem(parent, _texts(table, row))
                item.setIcon(0, swatch(row.label.color))
                item.setToolTip(0, table.basis)
                for column in (1, 2, 3):
                    item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        self.table.setRootIsDecorated(len(tables) > 1)

    def _idle(self, why_not: str = "") -> None:
        """Show that no count runs, and the reason why none can start, if any."""
        for button in (self.count, self.save):
            button.setEnabled(not why_not)
        self.regions.setEnabled(self._shown.store is not None)
        self.count.setText("Count")
        self.count.setToolTip("Count every pixel and every connected object.")
        self.save.setToolTip(
            "Save the counted areas as a CSV table. Regions can also be saved as a "
            "GeoPackage or GeoJSON with the class shares as columns."
        )
        if why_not:
            self.status.setText(why_not)
        elif self._counted:
            self.status.setText(f"Counted; areas by {self._counted[0].basis}.")
        else:
            self.status.setText("Estimated. Press Count for exact areas and objects.")


def _table() -> QTreeWidget:
    table = QTreeWidget()
    set_columns(table, ["Class", "Area", "Share", "Objects"])
    table.setAccessibleName("Areas")
    table.setToolTip("Share of the labelled pixels in the region.")
    table.setMinimumHeight(header_height(table) + ROWS * 20)
    return table


def _texts(table: "AreaTable", row: "ClassArea") -> list[str]:
    about = "≈ " if table.estimated else ""
    objects = "–" if row.objects is None else formatted(row.objects.count)
    area = format_area(row.area, table.unit)
    return [
        row.label.name,
        about + area,
        f"{about}{formatted(row.share, '.1%')}",
        objects,
    ]
