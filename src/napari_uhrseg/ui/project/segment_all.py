"""Run on the images of a project in a worker, with its progress."""

from threading import Event
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_uhrseg.engine.events import Progress
from napari_uhrseg.ui.project.runs import ImageDone, ProjectRun
from napari_uhrseg.ui.widgets.task_progress import TaskProgress
from napari_uhrseg.ui.workers.worker import Worker, Workers
from napari_uhrseg.units import counted

STOP_TIP = "Stop. Finished blocks are kept. Segment the images again to resume."


class SegmentAll(QObject):
    """Worker that segments many images, one run at a time.

    Parameters
    ----------
    workers
        Workers of the panel.
    progress
        Bar of the run; its button stops the run.
    parent
        Qt parent.
    """

    imageDone = Signal(object)  # ImageDone
    ended = Signal(object)  # paths of images with labels of other settings; list

    def __init__(
        self, workers: Workers, progress: TaskProgress, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._workers, self._progress = workers, progress
        self._worker: Worker | None = None
        self._left_out: list[str] = []
        self._stopped = Event()
        progress.stopped.connect(self._stopped.set)

    @property
    def running(self) -> bool:
        """True while images are segmented."""
        return self._worker is not None

    def start(self, run: ProjectRun, images: tuple[str, ...]) -> None:
        """Start a run.

        Parameters
        ----------
        run
            The run.
        images
            Paths of the images in the project; empty: all.
        """
        self._stopped.clear()
        self._left_out = []
        count = counted(len(images), "image") if images else "all"
        self._progress.begin(f"Segmenting {count}", STOP_TIP)
        self._worker = self._workers.start(
            run.events,
            images,
            self._stopped.is_set,
            yielded=self._happened,
            finished=self._finished,
        )

    def stop(self) -> None:
        """End the run. Called when the panel closes."""
        self._stopped.set()
        if self._worker is not None:
            self._worker.quit()

    def _happened(self, event: Any) -> None:
        if isinstance(event, Progress):
            self._progress.progress(event.done / event.total)
        elif isinstance(event, ImageDone):
            if event.has_other_labels:
                self._left_out.append(event.path)
            self.imageDone.emit(event)

    def _finished(self) -> None:
        self._worker = None
        self._progress.end()
        self.ended.emit([] if self._stopped.is_set() else self._left_out)
