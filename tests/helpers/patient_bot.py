"""Bot of pytest-qt that waits long, so that a busy machine fails no test."""

from collections.abc import Callable
from typing import Any

from pytestqt.qtbot import QtBot

WAIT_MS = 600_000


class PatientBot(QtBot):
    """Bot that waits until a test's timeout or `WAIT_MS`, whichever is later."""

    def waitUntil(self, callback: Callable[[], Any], *, timeout: int = 0) -> None:
        super().waitUntil(callback, timeout=max(timeout, WAIT_MS))

    def waitSignal(self, signal: Any, *, timeout: int = 0, **options: Any) -> Any:
        if options.get("raising", True):  # not where no signal is expected
            timeout = max(timeout, WAIT_MS)
        return super().waitSignal(signal, timeout=timeout, **options)

    def waitSignals(self, signals: Any, *, timeout: int = 0, **options: Any) -> Any:
        return super().waitSignals(signals, timeout=max(timeout, WAIT_MS), **options)
