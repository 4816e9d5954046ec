"""Tests of the exit status: interrupts, memory, and a store that is gone."""

import logging
import os
import signal
import subprocess
import sys
import warnings
from contextlib import closing

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from helpers.processes import child_environment
from napari_uhrseg.cli import app
from napari_uhrseg.cli.console import interruptible, report_errors
from napari_uhrseg.errors import StoreError


def status_of(command):
    with pytest.raises(typer.Exit) as exit_:
        report_errors(command)()
    return exit_.value.exit_code


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
    "error", [MemoryError(), RuntimeError("can't start new thread")]
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


MOVING = """
import sys
from pathlib import Path
from napari_uhrseg.io.labels.store import LabelStore
write, store = LabelStore.write, Path(sys.argv[sys.argv.index("--output") + 1])
def moving(self, *args):
    write(self, *args)
    if store.exists():
        store.rename(store.with_name("moved.zarr"))
LabelStore.write = moving
from napari_uhrseg.cli import app
app()
"""


@pytest.mark.slow
def test_run_whose_store_is_moved_exits_with_1(files, tmp_path):
    image = tmp_path / "image.tif"
    data = np.random.default_rng(0).integers(0, 255, (64, 3 * 8192, 3), np.uint8)
    tifffile.imwrite(image, data, photometric="rgb")
    run = subprocess.run(
        [
            sys.executable, "-c", MOVING, "segment", image, "--device", "cpu",
            "--memory-budget", "2GB", "--output", tmp_path / "a.zarr",
            "--checkpoint", files / "net.safetensors",
        ],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=False,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert "is gone" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "a.zarr").exists()
    assert (tmp_path / "moved.zarr" / "zarr.json").exists()
