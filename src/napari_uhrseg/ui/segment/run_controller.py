"""Controller of one run: its worker, its layers, its events."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_uhrseg.engine import events
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import Legend
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.viewport import Focus
from napari_uhrseg.ui.segment import worker as work
from napari_uhrseg.ui.segment.cpu_fallback import CpuFallbackDialog
from napari_uhrseg.ui.widgets.run_controls import RunControls
from napari_uhrseg.ui.workers.job_controller import JobController
from napari_uhrseg.ui.workers.worker import Workers, report
from napari_uhrseg.units import format_seconds, left_out_text

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


WRITE_DELAY_MS = 1000  # from the start of a pause until all blocks are on the disk


class RunController(JobController):
    """Controller that runs a request and shows its events.

    ``ended`` emits the outcome as text.
    """

    opened = Signal(object)  # LabelsView
    counted = Signal(object, object, bool)  # LabelsView, shares, whether new classes
    ended = Signal(str)

    def __init__(
        self, viewer: Any, layer: Any, bar: RunControls, parent: QObject
    ) -> None:
        super().__init__(bar, "Running.", parent)
        self._viewer = viewer
        self._focus = Focus(viewer, layer, self)
        self.view: LabelsView | None = (
            None  # set before start() to the view of an earlier run
        )
        self.image: Image | None = None  # set before start() to the image of the run
        self._failed: list[events.BlockFailed] = []
        self._outcome = "Cancelled. Segment continues where this run stopped."
        # This has no parent: it is stopped after Qt has deleted the window's children.
        self._settled = QTimer()
        self._settled.setSingleShot(True)
        self._settled.setInterval(WRITE_DELAY_MS)
        self._settled.timeout.connect(self._settle)

    def start(self, workers: Workers, *arguments: Any) -> None:
        """Start the worker with the arguments of `work.run` from ``request`` on."""
        self._worker = workers.start(
            work.run,
            self._focus,
            self._stopping,
            CpuFallbackDialog(self._bar, self._stopping, self),
            *arguments,
            yielded=self._event,
            errored=self._error,
            finished=self._finished,
        )
        self._worker.paused.connect(self._paused)

    def stop(self) -> None:
        """Disconnect from the viewer. The owner ends the worker."""
        self._focus.stop()
        self._settled.stop()

    def _event(self, event: Any) -> None:
        match event:
            case work.StoreReady(store=store, image=image, shown=shown):
                try:
                    self._show(store, image)
                finally:
                    shown.set()
            case events.Planned():
                self._bar.running("Running.")
                if self.view is not None:
                    self.view.update_name()
            case events.Progress(done=done, total=total, seconds_left=left):
                self._bar.progress(done, total, left)
            case events.BlockDone() | events.PreviewWritten():
                self._refresh()
            case events.BlockFailed():
                self._block_failed(event)
            case events.RetriedWithLess(change=now):
                self._bar.running(f"Out of memory: continuing {now}.")
            case work.ClassShares(shares=shares, legend=legend):
                self._count(shares, legend)
            case events.Finished():
                self._outcome = _outcome(event)

    def _paused(self) -> None:
        """Show the pause, and after a delay the blocks that were being written."""
        self._bar.paused(True)
        self._settled.start()

    def _settle(self) -> None:
        """Show and count the blocks that were written last."""
        self._refresh()
        if self.view is not None and self.view.alive:
            store = self.view.store
            self._count(store.area_shares(), store.legend)

    def _refresh(self) -> None:
        if self.view is not None:
            self.view.refresh()

    def _show(self, store: "LabelStore", image: Image) -> None:
        """Show the store in new layers, or in those that show it already."""
        if self.view is None or self.view.store is not store:
            if self.view is not None:
                self.view.remove()
            self.view = LabelsView(self._viewer, store, image)
        elif self.view.legend != store.legend:
            self.view.set_legend(store.legend)
        self.opened.emit(self.view)

    def _count(self, shares: dict[int, float], legend: Legend) -> None:
        if self.view is None:
            return
        new = legend != self.view.legend
        if new:
            self.view.set_legend(legend)
        self.counted.emit(self.view, shares, new)

    def _block_failed(self, event: events.BlockFailed) -> None:
        """Warn of the first block that failed; the outcome counts all of them."""
        if not self._failed:
            from napari.utils.notifications import show_warning

            show_warning(f"A part of the image could not be read: {event.reason}")
        self._failed.append(event)

    def _error(self, error: Exception) -> None:
        self._outcome = "The run failed."
        report(error)

    def _finished(self) -> None:
        self._focus.stop()
        self._bar.clear()
        self._settle()
        if self.view is not None and self.view.alive:
            self.view.update_name()
        self.ended.emit(self._outcome)


def _outcome(event: events.Finished) -> str:
    text = f"Done in {format_seconds(event.seconds)}."
    if event.left_out_area:
        left_out = left_out_text(event.left_out, event.left_out_area)
        text += f" {left_out}."
    if event.failed:
        text += f" {event.failed} blocks could not be read; Segment tries them again."
    return text
