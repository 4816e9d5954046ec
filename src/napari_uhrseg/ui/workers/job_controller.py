"""What a run and a training share: one job, paused and cancelled by a run bar."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_uhrseg.ui.widgets.run_controls import RunBar

if TYPE_CHECKING:
    from napari_uhrseg.ui.workers.jobs import Job


class BarJob(QObject):
    """The job behind a run bar; ``_status`` stands on the bar while it goes on."""

    def __init__(self, bar: RunBar, status: str, parent: QObject) -> None:
        super().__init__(parent)
        self._bar, self._status = bar, status
        self._job: Job | None = None

    def toggle_pause(self) -> None:
        job = self._job
        if job is None:
            return
        if job.is_paused or job.pausing:
            job.resume()
            self._bar.running(self._status)
        else:
            job.pause()
            self._bar.paused(False)

    def cancel(self) -> None:
        if self._job is not None:
            self._job.quit()
            self._bar.ending()

    def _stopping(self) -> bool:
        """Asked from the worker's thread, between the layers of a network."""
        return self._job is not None and bool(self._job.abort_requested)
