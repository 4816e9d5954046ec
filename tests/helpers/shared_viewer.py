"""One napari window for the tests of a module, one test after the other.

napari's fixture `make_napari_viewer` opens a window for each test. Opening and
closing it takes longer than most tests. The functions here repeat that fixture's
preparations and its check for leaks once for a module.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch
from weakref import ref

import pytest
from app_model import Application
from napari import Viewer
from napari._app_model._app import NapariApplication, _napari_names
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari._qt.qt_viewer import QtViewer
from napari._qt.threads.status_checker import StatusChecker
from napari.settings import get_settings
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

APPLICATION = "shared_test_app"


def _console(*_: object) -> QWidget:
    widget = QWidget()
    widget._update_theme = lambda *_: None  # type: ignore[attr-defined]
    return widget


@contextmanager
def _own_application() -> Iterator[None]:
    """Give napari an application model without commands of other windows."""
    from napari._qt._qapp_model.qactions import init_qactions
    from napari.plugins import _initialize_plugins

    def forget() -> None:
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()

    made = NapariApplication(APPLICATION)
    made.injection_store.namespace = _napari_names
    forget()
    try:
        with patch.object(NapariApplication, "get_app_model", return_value=made):
            yield
    finally:
        Application.destroy(APPLICATION)
        forget()


@contextmanager
def shared_viewer() -> Iterator[Viewer]:
    """Yield a viewer with a visible window; close it and check that it is gone."""
    get_settings().reset()
    with _own_application(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(StatusChecker, "start", lambda *_: None)
        monkeypatch.setattr(QtViewer, "_get_console", _console)
        viewer = Viewer(show=True, show_welcome_screen=False)
        window = viewer.window._qt_window
        assert QTest.qWaitForWindowExposed(window, 5000)
        left = ref(viewer.window._qt_viewer)
        # the fixture `make_napari_viewer` accepts no window but its own
        QtViewer._instances.discard(viewer.window._qt_viewer)
        yield viewer
        get_settings().reset()
        with patch.object(window, "_save_current_window_settings"):
            viewer.close()
        del viewer, window
        QApplication.processEvents()
        gc.collect()
        assert left() is None, "the window of this module was not released"


def clear(viewer: Viewer) -> None:
    """Bring the viewer back to the state of a new one."""
    window = viewer.window
    for widget in list(window.dock_widgets.values()):
        window.remove_dock_widget(widget)
    viewer.layers.clear()
    viewer.dims.ndisplay = 2
    viewer.scene.camera.reset()
    viewer.canvas.overlays.scale_bar.visible = False
    viewer.theme = get_settings().appearance.theme
    for toast in window._qt_window.findChildren(NapariQtNotification):
        toast.close()
    get_settings().reset()
    QApplication.processEvents()
