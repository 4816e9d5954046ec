"""Worker threads: the class of one worker, and the set of a panel's workers."""

import importlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from qtpy.QtCore import QObject, QThreadPool
from superqt.utils import GeneratorWorker

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.ui.widgets.help_window import show_error
from napari_uhrseg.ui.widgets.required import required

logger = logging.getLogger(__name__)


def report(error: BaseException) -> None:
    """Show an error in one notification; log it too if it is unexpected.

    Any thread may call this function.
    """
    if isinstance(error, UhrSegError):
        text = f"{error.message}\n{error.hint}".strip()
    else:
        logger.error("unexpected error", exc_info=error)
        what = f"{type(error).__name__}: {error}".strip().rstrip(":")
        text = f"An unexpected error occurred.\n{what}"
    show_error(text)


class Worker(GeneratorWorker):
    """Generator that runs in a thread and always reports its end.

    This class corrects four defects of superqt's worker. It takes a RuntimeError
    (such as CUDA's out-of-memory error) for its own deletion and emits nothing more.
    It leaves the generator open when it quits. It replaces the process-wide
    ``warnings.showwarning``, which overlapping workers restore in the wrong order.
    A long worker occupies one of the few threads of the pool.
    """

    # superqt's types give these signals an argument that they do not have
    paused: Any
    finished: Any

    def run(self) -> None:
        pool = required(QThreadPool.globalInstance())
        pool.releaseThread()  # other workers can start during a long run
        self._running = True
        self._emit("started")
        try:
            result = self.work()
        except Exception as error:  # noqa: BLE001 - reported by errored
            self._emit("errored", error)
        else:
            if not self.abort_requested:
                self._emit("returned", result)
        finally:
            self._running = False
            pool.reserveThread()
            self._emit("finished")
            self._emit("_finished", self)

    def _emit(self, signal: str, *values: object) -> None:
        """Emit, unless Qt has deleted the signals at the program's end."""
        with suppress(RuntimeError):
            getattr(self, signal).emit(*values)

    def work(self) -> Any:
        try:
            result = super().work()
        finally:
            self._gen.close()
        if isinstance(result, RuntimeError):
            raise result
        return result

    @property
    def pausing(self) -> bool:
        """True if a pause was requested and has not begun."""
        return bool(self._pause_requested)

    def resume(self) -> None:
        """Continue, or withdraw a pause that has not begun."""
        self._pause_requested = False
        super().resume()


@cache
def end_workers_at_exit() -> None:
    """Let the end of the program end all workers first.

    napari ends them when its event loop stops. A script, a notebook or an IPython
    session may end without that. Qt then waits for its threads, but zarr stops before
    Qt does, and a worker that uses zarr would wait forever. The functions of `atexit`
    and the executors of `concurrent.futures`, which zarr uses, end after this.
    """
    # the last registered is the first called; anyio and loky use this hook too
    importlib.import_module("concurrent.futures.thread")
    threading._register_atexit(Worker.await_workers)  # type: ignore[attr-defined]


def _generate(
    function: Callable[..., Iterator[Any]], *args: Any
) -> Generator[Any, Any, Any]:
    return (yield from function(*args))


def _once(function: Callable[..., Any], *args: Any) -> Generator[None, None, Any]:
    yield
    return function(*args)


class Workers(QObject):
    """Workers of one panel. No callback runs after ``close()``."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workers: set[Worker] = set()
        self._closed = False

    def start(
        self,
        generator: Callable[..., Iterator[Any]],
        *args: Any,
        yielded: Callable[[Any], None] | None = None,
        returned: Callable[[Any], None] | None = None,
        errored: Callable[[Exception], None] = report,
        finished: Callable[[], None] | None = None,
    ) -> Worker:
        """Run a generator function in a thread; the callbacks run on the Qt thread.

        Parameters
        ----------
        generator
            Generator function.
        *args
            Arguments of the generator function.
        yielded
            Function that takes each yielded value.
        returned
            Function that takes the return value. It is not called after a cancel.
        errored
            Function that takes the exception. The default shows it to the user.
        finished
            Function that is called last, after the return, error or cancel.
        """
        worker = Worker(_generate, generator, *args)
        for name, callback in (
            ("yielded", yielded),
            ("returned", returned),
            ("errored", errored),
        ):
            if callback is not None:
                getattr(worker, name).connect(self._guarded(callback))
        worker.finished.connect(lambda: self._ended(worker, finished))
        self._workers.add(worker)
        end_workers_at_exit()
        worker.start()
        return worker

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        returned: Callable[[Any], None] | None = None,
        errored: Callable[[Exception], None] = report,
        finished: Callable[[], None] | None = None,
    ) -> Worker:
        """Run a function in a thread; the callbacks run on the Qt thread.

        Parameters
        ----------
        function
            Function to run.
        *args
            Arguments of the function.
        returned, errored, finished
            Callbacks with the same meaning as in `start`.
        """
        return self.start(
            _once,
            function,
            *args,
            returned=returned,
            errored=errored,
            finished=finished,
        )

    def close(self) -> None:
        """Request the end of every worker; afterwards none of their callbacks runs."""
        self._closed = True
        for worker in self._workers:
            worker.quit()

    def _guarded(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(value: Any) -> None:
            if not self._closed:
                callback(value)

        return call

    def _ended(self, worker: Worker, finished: Callable[[], None] | None) -> None:
        self._workers.discard(worker)
        if finished is not None and not self._closed:
            finished()
