"""Fixtures: a viewer with the panel, and small networks."""

import gc
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from napari import Viewer
from napari.components import ViewerModel
from qtpy.QtCore import QThreadPool

from helpers.gated_network import open_gates, save_networks
from helpers.shared_viewer import clear, shared_viewer
from helpers.two_images import TwoImages
from helpers.wait import wait_for_plan
from helpers.window_fixtures import (  # noqa: F401
    dialogs_need_answers,
    no_remembered_choices,
    small_checkpoint,
)
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.panel import Panel
from napari_uhrseg.ui.workers.import_torch import MODULES, keep_triton_out


@pytest.fixture(scope="module", autouse=True)
def collect_only_what_tests_make():
    """Freeze imported objects once: each window ends with a full collection."""
    if not gc.get_freeze_count():
        keep_triton_out()
        for name in MODULES:
            import_module(name)
        gc.collect()
        gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)
        yield


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> list[Path]:
    """Return two checkpoints whose network waits at the gates of `gated_network`."""
    return save_networks(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def module_viewer(qapp):
    with shared_viewer() as viewer:
        viewers = [viewer]
        del viewer
        yield viewers
        viewers.clear()


@pytest.fixture
def viewer(request, qapp):
    """Return a viewer with a window if the test is marked `gui`, else a model of one.

    The model has layers, a camera and a canvas size, but draws nothing. It takes a
    tenth of the time of a window.
    """
    if request.node.get_closest_marker("gui"):
        return request.getfixturevalue("make_napari_viewer")(show=True)
    return ViewerModel()


@pytest.fixture
def cleared_viewer(module_viewer):
    """Return the window of the module, as it is when it opens.

    A module whose tests may share a window returns it from a fixture ``viewer``.
    """
    (viewer,) = module_viewer
    size = viewer.window._qt_window.size()
    yield viewer
    clear(viewer)
    viewer.window._qt_window.resize(size)


@pytest.fixture
def panel(viewer):
    panel = Panel(viewer)
    if isinstance(viewer, Viewer):
        viewer.window.add_dock_widget(panel)
    else:
        panel.show()
    yield panel
    open_gates()
    panel.stop()
    assert QThreadPool.globalInstance().waitForDone(600_000)
    if not isinstance(viewer, Viewer):  # a window may have deleted it
        panel.close()


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 255, (2100, 300, 3), np.uint8)
    return image_from_array(
        [noise, noise[::2, ::2]], name="noise", rgb=True, pixel_size=(0.5, 0.5),
        unit="micrometer",
    )  # fmt: skip


@pytest.fixture
def ready(viewer, panel, image, checkpoints, qtbot, tmp_path):
    """Return the panel with a plan and an output."""
    panel.segment.model.use(checkpoints[0])  # first, or the default one is planned too
    add_image(viewer, image)
    panel.segment.output.use(tmp_path / "labels.zarr")
    wait_for_plan(panel, qtbot)
    return panel


@pytest.fixture
def two(viewer, panel, small_checkpoint, qtbot, tmp_path):  # noqa: F811
    panel.segment.model.use(small_checkpoint)
    return TwoImages(viewer, panel, qtbot, tmp_path)
