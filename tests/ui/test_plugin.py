"""Tests of the manifest, the reader and the sample data."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from qtpy.QtCore import QThreadPool

import napari_uhrseg
from helpers.gate import zarr_gate
from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import ArraySource
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.pyramid_builder import fill_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.layers.label_layers import check_scales
from napari_uhrseg.ui.panel import Panel
from napari_uhrseg.ui.plugin import (
    HANDLED,
    get_reader,
    sample_virtual,
    virtual_image,
)
from napari_uhrseg.ui.workers.worker import Worker

HOME = Path(napari_uhrseg.__file__).parent


@pytest.fixture(autouse=True)
def builds_end():
    """End the builds of levels, whose cache is that of the test in which they begin."""
    yield
    Worker.await_workers()


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(HOME / "napari.yaml")


def test_manifest_names_exist(manifest):
    for command in manifest.contributions.commands:
        assert callable(command.python_name and _resolve(command.python_name))
    names = [w.display_name for w in manifest.contributions.widgets]
    assert names == ["Segment", "Fine-tune (training)"]


def test_reader_leaves_png_and_jpg_to_napari(manifest):
    patterns = {p for r in manifest.contributions.readers for p in r.filename_patterns}
    assert not patterns & {"*.png", "*.jpg", "*.jpeg", "*"}
    assert {"*.tif", "*.svs", "*.zarr", "*.jp2"} <= patterns


def _resolve(python_name: str) -> object:
    from importlib import import_module

    module, _, name = python_name.partition(":")
    return getattr(import_module(module), name)


def test_reader_opens_tiff_as_layer(tmp_path, qtbot):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((300, 200, 3), np.uint8), tile=(128, 128))
    ((data, options, kind),) = get_reader(str(path))(str(path))
    assert kind == "image"
    assert options["rgb"]
    assert options["contrast_limits"] == (0, 255)
    assert data.shape == (300, 200, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"", b"just words, no image", b"II*\x00\xff\xff\xff\x7f"]
)
def test_reader_reports_bad_file_once(make_napari_viewer, tmp_path, content):
    viewer = make_napari_viewer()
    path = tmp_path / "bad.tif"
    path.write_bytes(content)
    before = len(notification_manager.records)
    assert viewer.open(str(path), plugin="napari-uhrseg") == []
    assert not viewer.layers
    (record,) = notification_manager.records[before:]
    assert "bad.tif" in record.message
    assert not hasattr(record, "exception")  # which would offer a traceback


@pytest.mark.slow
def test_reader_opens_stack_with_pixel_size(make_napari_viewer, tmp_path):
    path = tmp_path / "stack.ome.tif"
    about = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    about |= {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, np.zeros((4, 90, 80), np.uint8), metadata=about)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(path), plugin="napari-uhrseg")
    assert tuple(layer.scale) == (1, 0.5, 0.5)
    assert [str(u) for u in layer.units] == ["pixel", "micrometer", "micrometer"]


@pytest.mark.slow
def test_reader_opens_label_store_in_panel(make_napari_viewer, tmp_path, qtbot):
    """Not as the image of confidences that it also is: dropped, or chosen in Open."""
    viewer = make_napari_viewer(show=True)
    scene = tmp_path / "a.tif"
    tifffile.imwrite(scene, np.zeros((300, 200, 3), np.uint8), tile=(128, 128))
    legend = Legend((LabelClass(1, "road", "#ff8000"),))
    for name in ("a.zarr", "b.zarr"):
        LabelStore.create(tmp_path / name, open_image(scene), legend).close()
    viewer.open(str(tmp_path / "a.zarr"), plugin="napari-uhrseg")
    (panel,) = (w for w in viewer.window.dock_widgets.values() if isinstance(w, Panel))

    def labels():
        return [x.name for x in viewer.layers if isinstance(x, Labels)]

    qtbot.waitUntil(lambda: len(labels()) == 1, timeout=20_000)
    assert viewer.layers[0].name == "a.tif"
    viewer.open(str(tmp_path / "b.zarr"), plugin="napari-uhrseg")
    qtbot.waitUntil(lambda: panel.segment.view.store.path.name == "b.zarr")
    panel.image.open_paths([tmp_path / "a.zarr"])
    qtbot.waitUntil(lambda: panel.segment.view.store.path.name == "a.zarr")
    assert not any("zarr" in x.name for x in viewer.layers)
    panel.stop()
    assert QThreadPool.globalInstance().waitForDone(600_000)


def test_reader_leaves_stacks_to_napari():
    assert get_reader(["a.tif", "b.tif"]) is None


@pytest.fixture
def cached_world(monkeypatch, tmp_path):
    """Put the coarsest level of the virtual sample, grey, in the cache on disk."""
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path))
    world = virtual_image()
    *finer, last = world.sources
    grey = [np.broadcast_to(np.uint8(90), level.shape) for level in finer]
    image = Image(
        name="grey",
        sources=[
            *(ArraySource(level, (512, 512, 3)) for level in grey),
            PendingLevel(last.shape, last.dtype, last.chunks),
        ],
        source_axes="yxs",
        rgb_bands=(0, 1, 2),
        fingerprint=world.fingerprint,
    )
    list(fill_levels(image))
    CHUNK_CACHE.clear()
    return tmp_path


@pytest.mark.slow
def test_virtual_sample_opens_without_reading_pixels(
    make_napari_viewer, cached_world, monkeypatch, qtbot
):
    disk = zarr_gate(monkeypatch, "__getitem__", str(cached_world))
    disk.close()
    viewer = make_napari_viewer()
    viewer.open_sample("napari-uhrseg", "virtual")
    (layer,) = viewer.layers
    filled = np.asarray(layer.data[-1])
    assert (filled == 128).all()  # nothing is known yet
    assert not CHUNK_CACHE.size
    disk.open()
    qtbot.waitUntil(lambda: (filled == 90).all(), timeout=20_000)
    assert (np.asarray(layer._slice.image.raw) == 90).all()


def test_virtual_sample_reads_pixels_in_background(cached_world):
    ((levels, options, _),) = sample_virtual()
    assert not CHUNK_CACHE.size
    assert levels[0].shape == (100_000, 100_000, 3)
    assert max(levels[-1].shape) <= 2048
    assert tuple(options["units"]) == ("metre", "metre")


@pytest.mark.slow
@pytest.mark.usefixtures("cached_world")
def test_reader_refuses_slide_beside_kilometre_image(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-uhrseg", "virtual")
    (layer,) = viewer.layers
    filled = np.asarray(layer.data[-1])
    qtbot.waitUntil(lambda: (filled == 90).all())  # else it would be computed later
    tiny = np.zeros((100, 100, 3), np.uint8)
    slide = image_from_array(
        tiny, name="slide", rgb=True, pixel_size=(0.25, 0.25), unit="micrometer"
    )
    with pytest.raises(OpenError, match="second window"):
        check_scales(viewer, slide)


def test_handled_path_adds_no_layer():
    from napari.plugins.io import _is_null_layer_sentinel

    assert _is_null_layer_sentinel([HANDLED])
