"""List of the corrected regions, with buttons to go to one and to revert it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.types import CorrectedRegion, LabelClass
from napari_uhrseg.ui.widgets.class_list import swatch
from napari_uhrseg.ui.widgets.layout import push_button
from napari_uhrseg.ui.widgets.table import fit_height, set_columns
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

MOST = 200  # largest number of regions in the list
ROWS = 6  # rows that are visible without scrolling


@dataclass(frozen=True, slots=True)
class CorrectionSummary:
    """Corrected pixels by class id, corrected regions, and state of undo and redo."""

    counts: Mapping[int, int] = field(default_factory=dict)
    places: tuple[CorrectedRegion, ...] = ()
    can_undo: bool = False
    can_redo: bool = False


def count_corrections(
    store: "LabelStore", corrections: "Corrections | None"
) -> CorrectionSummary:
    """Count the corrections of a store. This takes long, so call it on a worker thread.

    ``corrections`` is None if the corrections are not open. They are then opened for
    reading.
    """
    from napari_uhrseg.io.corrections.corrections import Corrections

    if corrections is None:
        with Corrections.open(store, write=False) as read:
            return count_corrections(store, read)
    return CorrectionSummary(
        corrections.counts(),
        corrections.corrected_regions(),
        corrections.can_undo,
        corrections.can_redo,
    )


class CorrectionList(QWidget):
    """Table with one row for each corrected region; hidden without corrections."""

    jumped = Signal(object)  # CorrectedRegion
    reverted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.tree = QTreeWidget()
        set_columns(self.tree, ["Corrected region", "Pixels"])
        self.tree.setRootIsDecorated(False)
        self.tree.setAccessibleName("Corrected regions")
        self.tree.setToolTip("Corrected regions, largest first.")
        self.tree.itemActivated.connect(lambda item: self._tell(self.jumped, item))
        jump = "Go to the selected region (or press Enter)."
        self.jump = push_button("Go there", jump, lambda: self._tell(self.jumped))
        revert = "Restore the predictions in the selected region. Undo takes this back."
        self.revert = push_button("Revert", revert, lambda: self._tell(self.reverted))
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.jump)
        buttons.addWidget(self.revert)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.tree)
        layout.addLayout(buttons)
        self.hide()

    def set_regions(
        self, regions: Iterable[CorrectedRegion], classes: Iterable[LabelClass]
    ) -> None:
        """Show the largest regions, with the colours of their classes."""
        by_id = {c.id: c for c in classes}
        shown = list(regions)[:MOST]
        row = self.tree.indexOfTopLevelItem(self.tree.currentItem())
        self.tree.clear()
        for region in shown:
            self.tree.addTopLevelItem(_item_of(region, by_id))
        if shown:
            row = min(max(row, 0), len(shown) - 1)
            self.tree.setCurrentItem(self.tree.topLevelItem(row))
        fit_height(self.tree, max(2, min(len(shown), ROWS)))
        self.setVisible(bool(shown))

    def _tell(self, signal: Signal, item: QTreeWidgetItem | None = None) -> None:
        item = item or self.tree.currentItem()
        if item is not None:
            place = item.data(0, Qt.ItemDataRole.UserRole)
            if isinstance(place, CorrectedRegion):
                signal.emit(place)


def _item_of(
    region: CorrectedRegion, classes: Mapping[int, LabelClass]
) -> QTreeWidgetItem:
    """Return the row of a region, with the colour of its largest class."""
    y, x = (round(v) for v in region.roi.center)
    total = sum(region.pixels.values())
    item = QTreeWidgetItem([f"x {formatted(x)}, y {formatted(y)}", formatted(total)])
    item.setData(0, Qt.ItemDataRole.UserRole, region)
    item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
    known = [i for i in region.pixels if i in classes]
    if known:
        most = max(known, key=lambda i: region.pixels[i])
        item.setIcon(0, swatch(classes[most].color))
    item.setToolTip(0, "\n".join(
        f"{classes[i].name}: {formatted(region.pixels[i])} pixels" for i in known
    ))  # fmt: skip
    return item
