"""The legend: names, colours, what is shown, and each class's share so far."""

from collections.abc import Collection, Mapping

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from napari_uhrseg.types import Legend

ID = Qt.ItemDataRole.UserRole
ROWS = 12  # classes seen without scrolling


class LegendList(QTreeWidget):
    """Classes with a tick that shows or hides them (Space on the keyboard)."""

    visibilityChanged = Signal(int, bool)  # class id, shown

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setColumnCount(2)
        self.setHeaderLabels(["Class", "Share"])
        self.setRootIsDecorated(False)
        self.setAccessibleName("Legend")
        self.setToolTip(
            "Untick a class to hide it. Shares are of the pixels labelled so far."
        )
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.itemChanged.connect(self._changed)
        self.hide()

    def set_legend(self, legend: Legend, hidden: Collection[int] = ()) -> None:
        """Show these classes, ticked but for the hidden ones (ids)."""
        self.blockSignals(True)
        self.clear()
        for c in legend:
            item = QTreeWidgetItem([c.name, "–"])
            item.setData(0, ID, c.id)
            item.setIcon(0, swatch(c.color))
            item.setToolTip(0, f"{c.name}: class {c.id}, {c.color}")
            ticked = Qt.CheckState.Checked, Qt.CheckState.Unchecked
            item.setCheckState(0, ticked[c.id in hidden])
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
            self.addTopLevelItem(item)
        self.blockSignals(False)
        row = max(self.sizeHintForRow(0), 18) if len(legend) else 18
        height = self.header().sizeHint().height() + row * min(len(legend), ROWS)
        self.setFixedHeight(height + 2 * self.frameWidth() + 4)
        self.setVisible(len(legend) > 0)

    def set_shares(self, shares: Mapping[int, float]) -> None:
        """Write each class's fraction of the labelled pixels."""
        self.blockSignals(True)
        for i in range(self.topLevelItemCount()):
            item = self.topLevelItem(i)
            share = shares.get(item.data(0, ID), 0.0)
            item.setText(1, _percent(share) if shares else "–")
        self.blockSignals(False)

    def _changed(self, item: QTreeWidgetItem, column: int) -> None:
        if column == 0:
            shown = item.checkState(0) == Qt.CheckState.Checked
            self.visibilityChanged.emit(item.data(0, ID), shown)


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{share:.1%}".replace("%", " %")


def swatch(color: str) -> QIcon:
    pixmap = QPixmap(14, 14)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)
