"""Gates that hold back work on other threads until a test opens them."""

import threading
import time
from threading import Condition, Event
from typing import Any

import pytest
import zarr

from napari_uhrseg.io.labels import pyramid

WAIT = 300  # seconds that work waits at most


class Gate:
    """Gate that work on other threads passes. It is open unless a test closes it.

    ``reached`` is set when work waits at the closed gate. ``delay`` is the time in
    seconds that work takes to pass the open gate.
    """

    def __init__(self) -> None:
        self.reached = Event()
        self.delay = 0.0
        self._changed = Condition()
        self._admitted = float("inf")

    def close(self, admitted: float = 0) -> None:
        """Close the gate after ``admitted`` more passes."""
        with self._changed:
            self.reached.clear()
            self._admitted = admitted

    def open(self) -> None:
        """Let all work pass without a delay."""
        with self._changed:
            self.delay, self._admitted = 0.0, float("inf")
            self._changed.notify_all()

    def admit(self, count: int = 1) -> None:
        """Let a number of waiting passes through; later ones wait again."""
        with self._changed:
            self.reached.clear()
            self._admitted += count
            self._changed.notify_all()

    def enter(self, count: int = 1) -> None:
        """Wait until the gate admits ``count`` passes. The main thread never waits."""
        if threading.current_thread() is threading.main_thread():
            return
        with self._changed:
            if self._admitted < count:
                self.reached.set()
            assert self._changed.wait_for(lambda: self._admitted >= count, WAIT)
            self._admitted -= count
        time.sleep(self.delay)


def label_gate(monkeypatch: pytest.MonkeyPatch, path: str) -> Gate:
    """Let writes of labels wait at a gate, as on a slow disk.

    ``path`` is a text that the path of the array contains.
    """
    gate, real = Gate(), pyramid.write_chunks

    def wait(array: zarr.Array, *arguments: Any) -> None:
        if path in str(array.store_path):
            gate.enter()
        real(array, *arguments)

    monkeypatch.setattr(pyramid, "write_chunks", wait)
    return gate


def zarr_gate(monkeypatch: pytest.MonkeyPatch, method: str, path: str) -> Gate:
    """Let reads or writes of zarr arrays wait at a gate, as on a slow disk.

    Parameters
    ----------
    monkeypatch
        Fixture that ends the waiting.
    method
        ``"__getitem__"`` or ``"__setitem__"``.
    path
        Text that the path of the array contains.
    """
    gate, real = Gate(), getattr(zarr.Array, method)

    def wait(array: zarr.Array, *arguments: object) -> object:
        if path in str(array.store_path):
            gate.enter()
        return real(array, *arguments)

    monkeypatch.setattr(zarr.Array, method, wait)
    return gate
