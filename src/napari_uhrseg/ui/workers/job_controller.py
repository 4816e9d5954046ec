"""What a run and a training share: one worker, paused and cancelled by a run bar."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_uhrseg.ui.widgets.run_controls import RunControls

if TYPE_CHECKING:
    from napari_uhrseg.ui.workers.worker import Worker


class JobController(QObject):
    """The worker behind a run bar; ``_status`` stands on the bar while it goes on."""

    def __init__(self, bar: RunControls, status: str, parent: QObject) -> None:
        super().__init__(parent)
        self._bar, self._status = bar, status
        self._worker: Worker | None = None

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
        """Asked from the worker's thread, between the layers of a network."""
        return self._worker is not None and bool(self._worker.abort_requested)
