"""Tabs for the steps of the work, with a mark on each step that is done or runs."""

from enum import Enum

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF, QShowEvent
from qtpy.QtWidgets import (
    QFrame,
    QScrollArea,
    QTabBar,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.ui.widgets.required import required

# the padding on the left has room for a mark
TABS = "QTabBar::tab { padding: 5px 2px 5px 15px; margin: 0px; min-width: 0px; }"
AT = 3  # pixels from the left side of a tab to its mark
MARK = 10  # side of a mark in pixels


class StepMark(Enum):
    """Mark of a step; the value is the text that the tooltip shows."""

    NONE = ""
    RUNNING = "running"
    WAITING = "waiting for a decision"
    DONE = "done"


class MarkedBar(QTabBar):
    """Tab bar that draws the mark of each step; a tab's icon would be too wide."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[StepMark] = []
        self.setExpanding(True)
        self.setAccessibleName("Steps")
        self.setToolTip("Steps of the work. The arrow keys change the step.")
        self.setStyleSheet(TABS)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for index, mark in enumerate(self.marks):
            place = self.tabRect(index)
            top = place.center().y() - MARK / 2
            painter.save()
            painter.translate(place.left() + AT, top)
            _draw(painter, mark, self.palette().color(self.foregroundRole()))
            painter.restore()
        painter.end()


class StepTabs(QTabWidget):
    """Tabs of the steps; a page scrolls only if the window is too small for it."""

    def __init__(self) -> None:
        super().__init__()
        self._titles: list[str] = []
        self._bar = MarkedBar()
        self.setTabBar(self._bar)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the bar has the focus instead
        self._bar.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setDocumentMode(True)
        self.setUsesScrollButtons(False)
        self.setElideMode(Qt.TextElideMode.ElideNone)
        self.help = QToolButton()
        self.help.setText("?")
        self.help.setAutoRaise(True)
        self.help.setAccessibleName("Help")
        self.help.setToolTip("Show the page of the documentation on this step (F1).")
        self.setCornerWidget(self.help)

    def add_step(self, title: str, *parts: QWidget) -> None:
        """Add a tab whose page has the parts below one another."""
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 6, 4, 4)
        column.setSpacing(6)
        for part in parts:
            column.addWidget(part)
        column.addStretch(1)
        page = QScrollArea()
        page.setWidgetResizable(True)
        page.setFrameShape(QFrame.Shape.NoFrame)
        page.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        page.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # it follows the focus
        page.setWidget(inner)
        self._titles.append(title)
        self._bar.marks.append(StepMark.NONE)
        self.addTab(page, title)
        self.set_mark(title, StepMark.NONE)

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of all steps, in order."""
        return tuple(self._titles)

    @property
    def shown(self) -> str:
        """Title of the step that is shown."""
        return self._titles[self.currentIndex()]

    def show_step(self, title: str) -> None:
        """Show the page of a step."""
        self.setCurrentIndex(self._titles.index(title))

    def set_mark(self, title: str, mark: StepMark) -> None:
        """Mark a step, for example as done; the tooltip names the mark."""
        index = self._titles.index(title)
        self._bar.marks[index] = mark
        self._bar.update()
        self.setTabToolTip(index, f"{title}: {mark.value}" if mark.value else title)

    def mark(self, title: str) -> StepMark:
        """Return the mark of a step."""
        return self._bar.marks[self._titles.index(title)]


class SharedPlace(QWidget):
    """Place for a widget that several steps show; it moves to the visible place.

    Parameters
    ----------
    shared
        Widget that the places share.
    before
        Widget of the step that precedes the shared one in the tab order.
    """

    def __init__(self, shared: QWidget, before: QWidget) -> None:
        super().__init__()
        self._shared, self._before = shared, before
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)

    def showEvent(self, event: QShowEvent | None) -> None:
        required(self.layout()).addWidget(self._shared)
        before = self._before
        for widget in self._shared.findChildren(QWidget):
            if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
                QWidget.setTabOrder(before, widget)
                before = widget
        super().showEvent(event)


def _draw(painter: QPainter, mark: StepMark, color: QColor) -> None:
    """Draw a mark in the square from the origin to `MARK`."""
    if mark is StepMark.DONE:
        painter.setPen(QPen(color, 2))
        corners = ((1, 5), (4, 8), (9, 2))
        painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in corners]))
        return
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(color)
    if mark is StepMark.RUNNING:
        corners = ((2, 1), (9, 5), (2, 9))
        painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
    elif mark is StepMark.WAITING:
        painter.drawEllipse(QPointF(5, 5), 3.5, 3.5)
