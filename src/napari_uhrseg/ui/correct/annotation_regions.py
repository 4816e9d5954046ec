"""Annotation regions of the displayed labels: names, locks and counts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Shapes
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QTreeWidget, QTreeWidgetItem, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.types import AnnotationRegion, MultiPolygon, Region
from napari_uhrseg.ui.correct.write_queue import WriteQueue
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.region_layer import OUTLINE, region_layer
from napari_uhrseg.ui.layers.viewport import (
    ANNOTATIONS,
    REGIONS,
    look_at,
    selected_shapes,
)
from napari_uhrseg.ui.widgets.layout import column_of, push_button, row_of
from napari_uhrseg.ui.widgets.table import fit_height, set_columns
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

LAYER = "Regions"
ROWS = 5  # rows that are visible without scrolling
LOCKED = "#8a8a8a"  # colour of outlines
Regions = tuple[AnnotationRegion, ...]
Counts = tuple[dict[int, int], ...]


class AnnotationRegions(QWidget):
    """List of the annotation regions, which a layer shows with their names."""

    changed = Signal()  # the locks may have changed

    def __init__(self, viewer: Any, workers: Workers, writer: WriteQueue) -> None:
        super().__init__()
        self._viewer, self._workers, self._writer = viewer, workers, writer
        self._view: LabelsView | None = None
        self._layer: Any = None
        self._counting: Worker | None = None
        self.regions: Regions = ()
        self.add = push_button(
            "Keep shapes",
            "Keep the selected (or all) shapes with the labels, as regions with names.",
            self._add,
        )
        self.remove = push_button(
            "Remove region", "Remove the selected region; labels stay.", self._remove
        )
        self.tree = QTreeWidget()
        set_columns(self.tree, ["Region", "Locked", "Corrected"])
        self.tree.setRootIsDecorated(False)
        self.tree.setAccessibleName("Annotation regions")
        self.tree.setToolTip(
            "Double-click a name to change it. Labels in a locked region stay. "
            "Its corrected pixels are counted. Enter shows the region."
        )
        self.tree.itemChanged.connect(self._edited)
        self.tree.itemActivated.connect(lambda item, _: self._go_to(item))
        self.setLayout(column_of(row_of(self.add, self.remove), self.tree))
        self._show()

    @property
    def locks(self) -> tuple[Region, ...]:
        """Regions that are locked."""
        return tuple(r.region for r in self.regions if r.locked)

    def set_view(self, view: LabelsView | None) -> None:
        """Set the displayed labels, and read their regions."""
        self._view, self.regions = view, ()
        self._show()
        if view is None:
            return

        def found(regions: Regions) -> None:
            if view is self._view and regions:
                self.regions = regions
                self._show()
                self.count()

        self._writer.submit(_read, view.store, then=found)

    def count(self) -> None:
        """Count the corrected pixels of each region in a worker."""
        view, regions = self._view, self.regions
        if view is None or not regions or self._counting is not None:
            return

        def counted(found: Counts) -> None:
            if view is self._view and regions == self.regions:
                self._show_counts(found)

        def ended() -> None:
            self._counting = None
            if regions != self.regions:
                self.count()

        self._counting = self._workers.call(
            _counted, view.store, regions, returned=counted, finished=ended
        )

    # -- changes --------------------------------------------------------------

    def _add(self) -> None:
        if self._view is None:
            return
        try:
            shapes = selected_shapes(self._viewer, self._view.layer)
        except PlanError as error:
            report(error)
            return
        first = len(self.regions) + 1
        added = (
            AnnotationRegion(f"Region {n}", MultiPolygon.of(shape))
            for n, shape in enumerate(shapes, first)
        )
        self._change((*self.regions, *added))

    def _remove(self) -> None:
        row = self.tree.indexOfTopLevelItem(self.tree.currentItem())
        if row >= 0:
            self._change((*self.regions[:row], *self.regions[row + 1 :]))

    def _edited(self, item: QTreeWidgetItem, column: int) -> None:
        """Take the name or the lock of a row."""
        row = self.tree.indexOfTopLevelItem(item)
        region = self.regions[row]
        locked = item.checkState(1) == Qt.CheckState.Checked
        edited = replace(region, name=item.text(0).strip(), locked=locked)
        if edited != region:
            self.regions = (*self.regions[:row], edited, *self.regions[row + 1 :])
            self._show_layer()  # the row that changes must not be replaced
            self._save(self.regions)

    def _change(self, regions: Regions) -> None:
        """Show other regions, and write them."""
        self.regions = regions
        self._show()
        self._save(regions)

    def _save(self, regions: Regions) -> None:
        """Write regions after the waiting strokes; show what is on disk if it fails."""
        view = self._view
        if view is None:
            return

        def failed(error: Exception) -> None:
            report(error)
            if view is self._view:
                self.set_view(view)

        self._writer.submit(
            _write,
            view.store,
            view.corrections,
            regions,
            then=lambda _: self.changed.emit(),
            failed=failed,
        )
        self.count()

    def _go_to(self, item: QTreeWidgetItem) -> None:
        row = self.tree.indexOfTopLevelItem(item)
        if self._view is not None and row >= 0:
            bounds = self.regions[row].region.bounds
            look_at(self._viewer, self._view.layer, bounds)

    # -- display --------------------------------------------------------------

    def _show(self) -> None:
        """Show the regions in the list and in the layer."""
        self.tree.blockSignals(True)
        self.tree.clear()
        for region in self.regions:
            item = QTreeWidgetItem(self.tree, [region.name, "", ""])
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            state = Qt.CheckState.Checked if region.locked else Qt.CheckState.Unchecked
            item.setCheckState(1, state)
            item.setTextAlignment(2, Qt.AlignmentFlag.AlignRight)
        self.tree.blockSignals(False)
        there = bool(self.regions)
        self.tree.setVisible(there)
        self.remove.setVisible(there)
        self.add.setEnabled(self._view is not None)
        if there:
            fit_height(self.tree, max(2, min(len(self.regions), ROWS)))
        self._show_layer()

    def _show_counts(self, counts: Counts) -> None:
        classes = () if self._view is None else self._view.classes
        names = {c.id: c.name for c in classes}
        self.tree.blockSignals(True)
        for row, found in enumerate(counts):
            item = self.tree.topLevelItem(row)
            if item is not None:
                item.setText(2, f"{formatted(sum(found.values()))}")
                lines = (
                    f"{names.get(i, i)}: {formatted(n)} pixels"
                    for i, n in found.items()
                )
                item.setToolTip(2, "\n".join(lines))
        self.tree.blockSignals(False)

    def _show_layer(self) -> None:
        """Show the outlines and names; the layer is replaced."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None
        if self._view is None or not self.regions:
            return
        chosen = self._viewer.layers.selection.active
        self._layer = _layer(self.regions, self._view.layer)
        self._viewer.add_layer(self._layer)
        self._viewer.layers.selection.active = chosen


def _layer(regions: Regions, under: Any) -> Shapes:
    """Return the layer of regions, in the position of a labels layer."""
    parts = [(r, p) for r in regions for p in r.region.polygons]
    layer = region_layer(
        [p for _, p in parts],
        under,
        LAYER,
        [LOCKED if r.locked else OUTLINE for r, _ in parts],
        features={"name": [r.name for r, _ in parts]},
        text={"string": "{name}", "color": "white", "size": 10},
    )
    layer.metadata[ANNOTATIONS] = regions
    layer.metadata[REGIONS] = tuple((r.region, r.name) for r in regions)
    layer.editable = False
    return layer


def _read(store: "LabelStore") -> Regions:
    from napari_uhrseg.io.corrections.annotations.regions_file import read_regions

    return read_regions(store.path)


def _write(
    store: "LabelStore",
    corrections: "Corrections | None",
    regions: Sequence[AnnotationRegion],
) -> None:
    """Write the regions, and lock them in the open corrections."""
    from napari_uhrseg.io.corrections.annotations.regions_file import write_regions

    write_regions(store.path, regions)
    if corrections is not None:
        corrections.set_locked([r.region for r in regions if r.locked])


def _counted(store: "LabelStore", regions: Regions) -> Counts:
    from napari_uhrseg.io.corrections.annotations.region_counts import count_corrected

    return tuple(count_corrected(store, region.region) for region in regions)
