"""Controller of one worker that run controls pause and cancel."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_uhrseg.ui.widgets.run_controls import RunControls

if TYPE_CHECKING:
    from napari_uhrseg.ui.workers.worker import Worker


class JobController(QObject):
    """Controller that pauses and cancels a worker, as the run controls ask.

    ``_status`` is the status line while the worker runs.
    """

    def __init__(self, bar: RunControls, status: str, parent: QObject) -> None:
        super().__init__(parent)
        self._bar, self._status = bar, status
        self._worker: Worker | None = None
        bar.pauseToggled.connect(self.toggle_pause)
        bar.cancelled.connect(self.cancel)

    def toggle_pause(self) -> None:
        worker = self._worker
        if worker is None:
            return
        if worker.is_paused or worker.pausing:
            worker.resume()
            self._bar.running(self._status)
        else:
            worker.pause()
            self._bar.paused(False)

    def cancel(self) -> None:
        if self._worker is not None:
            self._worker.quit()
            self._bar.ending()

    def _stopping(self) -> bool:
        """Return True if cancelled. The worker calls this between network layers."""
        return self._worker is not None and bool(self._worker.abort_requested)
