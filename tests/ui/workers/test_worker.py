"""Tests of workers: end, pause, errors and threads."""

import subprocess
import sys
import threading
import time
import warnings

import pytest
from qtpy.QtCore import QThreadPool

from napari_uhrseg.errors import ReadError
from napari_uhrseg.ui.workers.worker import Workers, report


@pytest.fixture
def workers(qtbot):
    workers = Workers()
    yield workers
    workers.close()
    assert QThreadPool.globalInstance().waitForDone(600_000)


def test_worker_callbacks_run_on_qt_thread_in_order(workers, qtbot):
    heard = []

    def work(n):
        for i in range(n):
            yield i, threading.current_thread()
        return "end"

    def note(name):
        return lambda *value: heard.append((name, value, threading.current_thread()))

    workers.start(work, 2, yielded=note("y"), returned=note("r"), finished=note("f"))
    qtbot.waitUntil(lambda: bool(heard) and heard[-1][0] == "f")
    assert [name for name, *_ in heard] == ["y", "y", "r", "f"]
    assert {thread for *_, thread in heard} == {threading.main_thread()}
    assert heard[0][1][0][1] is not threading.main_thread()


@pytest.mark.parametrize("kind", [RuntimeError, ReadError, ValueError])
def test_worker_reports_error_then_end(workers, qtbot, kind):
    heard = []

    def work():
        yield
        raise kind("no")

    workers.start(work, errored=heard.append, finished=lambda: heard.append("f"))
    qtbot.waitUntil(lambda: bool(heard) and heard[-1] == "f")
    assert isinstance(heard[0], kind)


def test_worker_quit_closes_generator(workers, qtbot):
    closed, begun = threading.Event(), threading.Event()

    def work():
        try:
            while True:
                begun.set()
                time.sleep(0.01)
                yield
        finally:
            closed.set()

    ended = []
    worker = workers.start(work, finished=lambda: ended.append(1))
    qtbot.waitUntil(begun.is_set)
    worker.quit()
    qtbot.waitUntil(lambda: bool(ended))
    assert closed.is_set()


def test_worker_pauses_and_continues(workers, qtbot):
    steps = []

    def work():
        while True:
            time.sleep(0.01)
            steps.append(1)
            yield

    worker = workers.start(work)
    qtbot.waitUntil(lambda: len(steps) > 2)
    worker.pause()
    worker.resume()  # taken back at once
    qtbot.wait(50)
    assert not worker.is_paused
    worker.pause()
    qtbot.waitUntil(lambda: worker.is_paused)
    before = len(steps)
    qtbot.wait(100)
    assert len(steps) == before
    worker.resume()
    qtbot.waitUntil(lambda: len(steps) > before + 2)
    worker.quit()


def test_long_workers_leave_pool_free(workers, qtbot):
    def forever():
        while True:
            time.sleep(0.01)
            yield

    pool = QThreadPool.globalInstance()
    for _ in range(pool.maxThreadCount() + 1):
        workers.start(forever)
    heard = []
    workers.call(lambda: 7, returned=heard.append)
    qtbot.waitUntil(lambda: heard == [7])


def test_overlapping_workers_keep_showwarning(workers, qtbot):
    before = warnings.showwarning
    gate = threading.Event()
    ended = []
    workers.call(gate.wait, finished=lambda: ended.append(1))
    workers.call(gate.wait, finished=lambda: ended.append(1))
    gate.set()
    qtbot.waitUntil(lambda: len(ended) == 2)
    assert warnings.showwarning is before


def test_workers_close_stops_callbacks(workers, qtbot):
    heard = []
    gate = threading.Event()
    workers.call(gate.wait, returned=heard.append, finished=lambda: heard.append("f"))
    workers.close()
    gate.set()
    QThreadPool.globalInstance().waitForDone(600_000)
    qtbot.wait(50)
    assert heard == []


def test_report_shows_message_and_hint(qtbot):
    from napari.utils.notifications import notification_manager

    report(ReadError("It broke.", "Mend it."))
    assert notification_manager.records[-1].message == "It broke.\nMend it."
    report(KeyError("x"))
    assert "unexpected error" in notification_manager.records[-1].message


UNFINISHED_SCRIPT = """
import threading
from qtpy.QtCore import QCoreApplication
from napari_uhrseg.ui.workers.worker import Workers

app, begun = QCoreApplication([]), threading.Event()


def write():
    import napari_uhrseg.io.zarr_setup
    import zarr

    array = zarr.create_array({}, shape=(64, 64), dtype="u1", chunks=(8, 8))
    try:
        while True:
            array[:] = 1
            begun.set()
            yield
    finally:
        print("closed")


workers = Workers()
workers.start(write)
begun.wait()
"""


@pytest.mark.slow
def test_program_ends_while_worker_uses_zarr():
    """Zarr, imported by the worker, stops at exit only after the worker's end."""
    command = [sys.executable, "-c", UNFINISHED_SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
    assert done.stderr == ""
