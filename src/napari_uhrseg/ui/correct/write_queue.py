"""Thread that makes all changes of a store, in the order of the requests."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_uhrseg.ui.workers.worker import report

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.undo import Direction
    from napari_uhrseg.types import Roi

MAX_SHORT_PARTS = 8  # parts of a change, about 50 ms each, that are undone at once


class WriteQueue(QObject):
    """Queue of short functions that run in order on one thread.

    Callbacks run on the Qt thread. The queue is for strokes, undo, and reading the
    labels in view. Longer operations are workers.
    """

    _done = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="uhrseg-corrections")
        self._closed = False
        self._done.connect(self._tell)

    def submit(
        self,
        function: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] = report,
    ) -> None:
        """Run a function after all earlier ones.

        Parameters
        ----------
        function
            Function to run on the thread of the queue.
        *args
            Arguments of the function.
        then
            Function that takes the result, on the Qt thread. None: ignore the result.
        failed
            Function that takes the exception if the function raised one, on the Qt
            thread.
        """

        def work() -> None:
            try:
                result = function(*args)
            except Exception as error:  # noqa: BLE001 - reported on the Qt thread
                self._emit(failed, error)
            else:
                if then is not None:
                    self._emit(then, result)

        if not self._closed:
            self._thread.submit(work)

    def close(self) -> None:
        """Wait for all functions; afterwards no callback runs."""
        self._closed = True
        self._thread.shutdown()

    def _emit(self, tell: Callable[[Any], None], value: object) -> None:
        with suppress(RuntimeError):  # Qt has deleted this at the program's end
            self._done.emit(tell, value)

    def _tell(self, tell: Callable[[Any], None], value: object) -> None:
        if not self._closed:
            tell(value)


def undo_or_redo(
    writer: WriteQueue,
    corrections: "Corrections",
    way: "Direction",
    then: "Callable[[Roi | None], None]",
    long: "Callable[[Direction], None]",
) -> None:
    """Undo or redo a change after all waiting ones, if that takes a short time.

    Parameters
    ----------
    writer
        Queue of the changes.
    corrections
        Open corrections.
    way
        "undo" or "redo".
    then
        Function that takes the changed rectangle in level-0 pixels. It takes None if
        there is no change to undo or redo.
    long
        Function that is called with ``way`` instead if the change is large. Nothing
        is undone then. A worker must call `Corrections.undo_or_redo`.
    """

    def work() -> "Roi | bool | None":
        if corrections.next_part_count(way) > MAX_SHORT_PARTS:
            return True
        return corrections.undo() if way == "undo" else corrections.redo()

    def finish(found: "Roi | bool | None") -> None:
        if isinstance(found, bool):
            long(way)
        else:
            then(found)

    writer.submit(work, then=finish)
