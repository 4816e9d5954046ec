"""Plots of the training loss and the validation mIoU over the steps."""

from dataclasses import dataclass
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qthrottled

from napari_uhrseg.ui.widgets.colours import BLUE, ORANGE
from napari_uhrseg.ui.widgets.number_text import local
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.worker import Workers

EVERY = 400  # ms between two updates
HEIGHT = 290
SMALL = {"font-size": "8pt"}
NOTHING = "no validation data"
LOSS, MIOU = ORANGE, BLUE


@dataclass(frozen=True, slots=True)
class Curves:
    """Points of the plots of one training.

    Attributes
    ----------
    losses, scores
        Points (step, value); scores are mIoU in percent.
    total
        Steps of the whole training.
    held_out
        True if the training has validation data.
    """

    losses: tuple[tuple[int, float], ...] = ()
    scores: tuple[tuple[int, float], ...] = ()
    total: int = 0
    held_out: bool = True


class TrainingPlot(QWidget):
    """Plot of the training loss above a plot of the validation mIoU.

    ``losses`` and ``scores`` are the points (step, value). The mIoU is in percent.
    pyqtgraph is loaded when the first training starts, because it takes some time.
    """

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self.losses: list[tuple[int, float]] = []
        self.scores: list[tuple[int, float]] = []
        self.total = 0  # steps of the whole training
        self.held_out = True  # True if the training has validation data
        self.loss: Any = None  # the plots are None until pyqtgraph is loaded
        self.miou: Any = None
        self.canvas: Any = None
        self._lines: list[Any] = []
        self._level: Any = None
        self._nothing: Any = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.setFixedHeight(HEIGHT)
        self.setAccessibleName("Training curves")
        self._draw = qthrottled(self._draw_now, timeout=EVERY, parent=self)
        viewer.events.theme.connect(self._follow_theme)
        self.hide()

    def begin(self) -> None:
        """Clear the points of the last training run and show the plots."""
        self.losses, self.scores, self.total = [], [], 0
        self.held_out = True
        if self._level is not None:
            self._level.hide()
        if self.loss is None:
            self._workers.call(_load, returned=self._make)
        self.show()
        self._draw()

    @property
    def curves(self) -> Curves:
        """Points of the last training run."""
        losses, scores = tuple(self.losses), tuple(self.scores)
        return Curves(losses, scores, self.total, self.held_out)

    def show_curves(self, curves: Curves) -> None:
        """Show the points of another training run; hide the plots without any."""
        self.losses, self.scores = list(curves.losses), list(curves.scores)
        self.total, self.held_out = curves.total, curves.held_out
        if self._level is not None:
            self._level.hide()
        self.setVisible(bool(self.losses or self.scores))
        self._draw()

    def add_loss(self, step: int, value: float) -> None:
        self.losses.append((step, value))
        self._draw()

    def add_score(self, step: int, miou: float) -> None:
        """Add a validation mIoU, 0 to 1; that of step 0 is also a horizontal line."""
        self.scores.append((step, 100 * miou))
        self._draw()

    def stop(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.events.theme.disconnect(self._follow_theme)
        self._draw.cancel()

    def _make(self, _: None) -> None:
        """Create the plots after a worker has loaded pyqtgraph."""
        import pyqtgraph as pg

        if self.loss is not None:
            return
        self.canvas = pg.GraphicsLayoutWidget()
        for widget in (self.canvas, self.canvas.viewport()):  # not interactive
            widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        required(self.layout()).addWidget(self.canvas)
        self.loss, self.miou = (
            self.canvas.addPlot(row, 0, enableMenu=False, axisItems=_local_axes())
            for row in (0, 1)
        )
        self.loss.setXLink(self.miou)
        names = ("training loss", "validation mIoU (%)")
        for plot, name, color in zip(
            (self.loss, self.miou), names, (LOSS, MIOU), strict=True
        ):
            plot.hideButtons()
            plot.setMouseEnabled(False, False)  # the wheel belongs to the panel
            plot.showGrid(x=False, y=True, alpha=0.25)
            plot.setLabel("left", name, **SMALL)
            plot.getAxis("left").setWidth(52)
            plot.getAxis("left").enableAutoSIPrefix(False)
            plot.getAxis("bottom").enableAutoSIPrefix(False)
            self._lines.append(
                plot.plot(
                    pen=pg.mkPen(color, width=2),
                    symbol="o",
                    symbolSize=5,
                    symbolBrush=color,
                    symbolPen=None,
                )
            )
        self.miou.setLimits(yMin=-2, yMax=102)  # percent, with a margin for symbols
        self.loss.getAxis("bottom").setStyle(showValues=False)
        self.loss.getAxis("bottom").setHeight(8)
        grid = self.canvas.ci.layout
        grid.setContentsMargins(0, 4, 16, 0)  # for half of the last number
        for row in (0, 1):
            grid.setRowStretchFactor(row, 1)
        self.miou.setLabel("bottom", "step", **SMALL)
        self.miou.getAxis("bottom").setHeight(34)
        dashed = pg.mkPen(MIOU, style=pg.QtCore.Qt.PenStyle.DashLine)
        self._level = pg.InfiniteLine(angle=0, pen=dashed)
        self._level.hide()
        self.miou.addItem(self._level, ignoreBounds=True)
        self._nothing = pg.LabelItem(NOTHING, size="8pt", parent=self.miou.getViewBox())
        self._nothing.anchor((0.5, 0.5), (0.5, 0.5))
        self._follow_theme()
        self._draw_now()

    def _follow_theme(self, _: object = None) -> None:
        if self.loss is None:
            return
        theme = get_theme(self._viewer.theme)
        self.canvas.setBackground(theme.background.as_hex(format="long"))
        ink = theme.text.as_hex(format="long")
        self._nothing.setText(NOTHING, color=ink)
        for plot in (self.loss, self.miou):
            for side in ("left", "bottom"):
                axis = plot.getAxis(side)
                axis.setPen(ink)
                axis.setTextPen(ink)
                axis.label.setDefaultTextColor(axis.textPen().color())

    def _draw_now(self) -> None:
        if self.loss is None:
            return
        for line, points in zip(self._lines, (self.losses, self.scores), strict=True):
            line.setData([s for s, _ in points], [v for _, v in points])
        self.loss.setXRange(0, max(1, self.total), padding=0.03)
        self._nothing.setVisible(not self.held_out)
        if not self.scores:
            self.miou.setYRange(0, 100)
        else:
            self.miou.enableAutoRange(y=True)
            self._level.setValue(self.scores[0][1])
            self._level.setVisible(self.scores[0][0] == 0)


def _local_axes() -> dict[str, Any]:
    """Return axes whose numbers have the decimal point of the locale."""
    import pyqtgraph as pg

    class LocalAxis(pg.AxisItem):  # type: ignore[misc]
        def tickStrings(self, *arguments: Any) -> list[str]:
            return [local(text) for text in super().tickStrings(*arguments)]

    return {side: LocalAxis(side) for side in ("left", "bottom")}


def _load() -> None:
    """Import pyqtgraph, which takes a third of a second, on a worker thread."""
    import pyqtgraph  # noqa: F401
