"""Tests of the exit status: interrupts, memory, and a store that is gone."""

import logging
import os
import signal
import warnings
from contextlib import closing

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.cli.console import interruptible, report_errors
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.store import LabelStore


def status_of(command):
    with pytest.raises(typer.Exit) as exit_:
        report_errors(command)()
    return exit_.value.exit_code


@pytest.fixture(autouse=True)
def interrupts():
    """Raise KeyboardInterrupt also in a process that was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_errors_exit_with_1(capsys):
    def fails():
        raise StoreError("It is damaged.", "Copy it.")

    assert status_of(fails) == 1
    assert capsys.readouterr().err == "It is damaged.\nCopy it.\n"


def test_messages_of_libraries_are_not_printed(caplog, capfd, recwarn):
    def command():
        logging.getLogger("tifffile").error("tag 42113")
        logging.getLogger("zarr.core").warning("not recognized")
        warnings.warn("unknown object", stacklevel=1)
        logging.getLogger("napari_uhrseg").warning("The undo history is damaged.")

    report_errors(command)()
    assert caplog.messages == ["The undo history is damaged."]
    assert not recwarn.list
    logging.getLogger("tifffile").error("afterwards")
    assert caplog.messages[1:] == ["afterwards"]
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        ImportError("a.so: failed to map segment from shared object"),
        ImportError("a.so: cannot allocate memory in static TLS block"),
    ],
)
def test_too_little_memory_is_one_sentence(error, capsys):
    def fails():
        raise error

    assert status_of(fails) == 1
    assert "There is too little main memory." in capsys.readouterr().err


def test_other_errors_are_not_hidden():
    def fails():
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        report_errors(fails)()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("between_events", [False, True])
def test_any_number_of_interrupts_exits_with_130(count, between_events, capsys):
    cleaned = []

    def events():
        try:
            for number in range(9):
                yield number
                press()
        finally:
            for _ in range(count - 1):
                press()
            cleaned.append(True)

    def command():
        with (
            interruptible("Run it again.", between_events=between_events) as watch,
            closing(events()) as iterator,
        ):
            for _ in watch(iterator):
                pass

    assert status_of(command) == 130
    for _ in range(count - 1):
        press()
    assert capsys.readouterr().err == "Stopped. Run it again.\n"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_interrupt_outside_a_run_exits_with_130(capsys):
    assert status_of(press) == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_finished_command_restores_the_handlers():
    before = signal.getsignal(signal.SIGINT)
    with interruptible("") as watch:
        assert list(watch(iter([1, 2]))) == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_wrong_command_exits_with_2():
    assert CliRunner().invoke(app, ["segment", "--nonsense"]).exit_code == 2


@pytest.mark.slow
def test_run_whose_store_is_moved_exits_with_1(files, tmp_path, monkeypatch):
    image, path = tmp_path / "image.tif", tmp_path / "a.zarr"
    data = np.random.default_rng(0).integers(0, 255, (64, 3 * 2048, 3), np.uint8)
    tifffile.imwrite(image, data, photometric="rgb")
    write = LabelStore.write

    def moving(store, *arguments):
        write(store, *arguments)
        if path.exists():
            path.rename(tmp_path / "moved.zarr")

    monkeypatch.setattr(LabelStore, "write", moving)
    command = ["segment", image, "--output", path, "--device", "cpu"]
    # blocks have at most 2048 pixels per side
    command += ["--memory-budget", "400MB"]
    command += ["--checkpoint", files / "net.safetensors"]
    run = CliRunner().invoke(app, [str(word) for word in command])
    assert run.exit_code == 1, run.stderr
    assert isinstance(run.exception, SystemExit)
    assert "is gone" in run.stderr
    assert not path.exists()
    assert (tmp_path / "moved.zarr" / "zarr.json").exists()
