"""List of classes: names, colours, visibility, shares and corrected pixels."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QTreeWidget, QTreeWidgetItem, QWidget

from napari_uhrseg.types import LabelClass
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.table import fit_height, set_columns
from napari_uhrseg.units import formatted

ID = Qt.ItemDataRole.UserRole
ROWS = 12  # classes that are visible without scrolling
CORRECTED = 2  # column that is hidden until pixels are corrected


class ClassList(QTreeWidget):
    """List of classes; a tick (or Space) shows or hides a class."""

    visibilityChanged = Signal(int, bool)  # class id, shown
    classChosen = Signal(int)  # class id, by mouse or arrow keys

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._counts: dict[int, int] = {}
        set_columns(self, ["Class", "Share", "Corrected"])
        self.setColumnHidden(CORRECTED, True)
        self.setRootIsDecorated(False)
        self.setAccessibleName("Legend")
        self.setToolTip(
            "Untick a class to hide it. Shares are fractions of the pixels labelled so "
            "far, estimated from the coarsest level; Areas counts them. When "
            "correcting, the chosen class is painted; number keys choose a class."
        )
        self.itemChanged.connect(self._changed)
        self.currentItemChanged.connect(self._current_changed)
        self.hide()

    def set_legend(
        self, legend: Iterable[LabelClass], hidden: Collection[int] = ()
    ) -> None:
        """Show these classes; those with the ids in ``hidden`` are not ticked."""
        chosen, counts = self.chosen, self._counts
        self.blockSignals(True)
        self.clear()
        for number, c in enumerate(legend, 1):
            item = QTreeWidgetItem([c.name, "–", ""])
            item.setData(0, ID, c.id)
            item.setIcon(0, swatch(c.color))
            keys = " ".join(str(number)) if number < 100 else ""
            key = f", {'key' if number < 10 else 'keys'} {keys}" if keys else ""
            item.setToolTip(0, f"{c.name}: class {c.id}, {c.color}{key}")
            ticked = Qt.CheckState.Checked, Qt.CheckState.Unchecked
            item.setCheckState(0, ticked[c.id in hidden])
            for column in (1, CORRECTED):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            self.addTopLevelItem(item)
        self.blockSignals(False)
        self.choose(chosen)
        self.set_corrected(counts)
        rows = self.topLevelItemCount()
        fit_height(self, min(rows, ROWS))
        self.setVisible(rows > 0)

    @property
    def chosen(self) -> int:
        """Id of the class in the current row, or 0 if there is none."""
        item = self.currentItem()
        return int(item.data(0, ID)) if item is not None else 0

    def choose(self, class_id: int) -> None:
        """Select the row of a class without a signal."""
        self.blockSignals(True)
        for item in self._items():
            if item.data(0, ID) == class_id:
                self.setCurrentItem(item)
        self.blockSignals(False)

    def set_corrected(self, counts: Mapping[int, int]) -> None:
        """Show the number of corrected pixels by class id."""
        self._counts = dict(counts)
        self.blockSignals(True)
        for item in self._items():
            count = counts.get(item.data(0, ID), 0)
            item.setText(CORRECTED, formatted(count) if count else "–")
            item.setToolTip(CORRECTED, f"{formatted(count)} pixels corrected")
        self.blockSignals(False)
        self.setColumnHidden(CORRECTED, not counts)

    def set_shares(self, shares: Mapping[int, float]) -> None:
        """Show the estimated fraction of the labelled pixels by class id."""
        self.blockSignals(True)
        for item in self._items():
            share = shares.get(item.data(0, ID), 0.0)
            item.setText(1, _percent(share) if shares else "–")
        self.blockSignals(False)

    def _items(self) -> Iterator[QTreeWidgetItem]:
        for row in range(self.topLevelItemCount()):
            yield required(self.topLevelItem(row))

    def _current_changed(self, item: QTreeWidgetItem | None) -> None:
        if item is not None:
            self.classChosen.emit(item.data(0, ID))

    def _changed(self, item: QTreeWidgetItem, column: int) -> None:
        if column == 0:
            shown = item.checkState(0) == Qt.CheckState.Checked
            self.visibilityChanged.emit(item.data(0, ID), shown)


def _percent(share: float) -> str:
    """Return an estimated fraction as a text."""
    return (
        "< 0.1 %"
        if 0 < share < 0.001
        else f"≈ {formatted(share, '.1%')}".replace("%", " %")
    )


def swatch(color: str) -> QIcon:
    """Return an icon that is a square of a colour."""
    pixmap = QPixmap(14, 14)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)
