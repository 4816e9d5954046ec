"""Settings of all tests. The user's own settings and caches stay untouched."""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QLocale

_own = tempfile.TemporaryDirectory(prefix="uhrseg-tests-")
os.environ["NAPARI_CONFIG"] = str(Path(_own.name) / "settings.yaml")
os.environ["XDG_CONFIG_HOME"] = _own.name  # QSettings' recent checkpoints
os.environ["NAPARI_UHRSEG_CACHE"] = str(Path(_own.name) / "cache")
os.environ["NAPARI_UHRSEG_STATE"] = str(Path(_own.name) / "state")
QLocale.setDefault(QLocale.c())  # the window shows numbers as the user's locale does

# Some tests load torch before others open a window, in one process: with software
# GL, triton's LLVM and Mesa's would meet and end it (see ui/workers/import_torch.py).
sys.modules["triton"] = None  # type: ignore[assignment]

# No time limit: a slow or busy machine fails no test. CI runs the same examples always.
settings.register_profile(
    "napari-uhrseg",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("napari-uhrseg")


def pytest_addoption(parser):
    parser.addoption(
        "--update-screenshots",
        action="store_true",
        help="take the screenshots of the README again (tests/story)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import all tests with the garbage collector off, which saves a tenth of it."""
    thresholds = gc.get_threshold()
    gc.set_threshold(0)  # napari's menus undo gc.disable()
    try:
        return (yield)
    finally:
        gc.set_threshold(*thresholds)


@pytest.fixture(autouse=True)
def trace_no_children(request: pytest.FixtureRequest) -> None:
    """Measure no coverage of the child processes of a test that measures none."""
    if request.node.get_closest_marker("no_cover"):
        from helpers.processes import COVERAGE_VARIABLES

        patch = request.getfixturevalue("monkeypatch")
        for name in COVERAGE_VARIABLES:
            patch.delenv(name, raising=False)


@pytest.fixture
def set_locale() -> Iterator[Callable[[str], None]]:
    """Return a function that sets the locale of the window by a name such as de_DE."""
    before = QLocale()
    yield lambda name: QLocale.setDefault(QLocale(name))
    QLocale.setDefault(before)


@pytest.fixture
def qtbot(qapp: object, request: pytest.FixtureRequest) -> QtBot:
    """Return a bot that waits long, so that a busy machine fails no test."""
    from helpers.patient_bot import PatientBot

    return PatientBot(request)
