"""Tests of a run on a cluster started from the panel."""

import re

import numpy as np
import pytest
import tifffile

from helpers.dask_client import connect_quickly
from helpers.forked import forked_workers
from helpers.gated_network import save_networks
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.ui.layers.label_layers import add_image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return checkpoints of a network that other processes can build."""
    return save_networks(tmp_path_factory.mktemp("checkpoints"), "tu-test_efficientnet")


@pytest.fixture
def on_file(viewer, panel, checkpoints, qtbot, tmp_path):
    """Return the panel with a plan and an image that workers can open."""
    data = np.random.default_rng(0).integers(0, 255, (2100, 300, 3), np.uint8)
    tifffile.imwrite(tmp_path / "noise.tif", data, photometric="rgb", tile=(256, 256))
    add_image(viewer, open_image(tmp_path / "noise.tif"))
    panel.segment.model.use(checkpoints[0])
    panel.segment.output.use(tmp_path / "labels.zarr")
    wait_for_plan(panel, qtbot)
    return panel


def give(panel, address: str) -> None:
    """Enter an address and leave the line."""
    line = panel.segment.form.cluster.line
    line.setText(address)
    line.setModified(True)
    line.editingFinished.emit()


def megabytes(plan: str) -> int:
    return int(re.search(r"([0-9]+) MB on [^d]", plan)[1])


def test_cluster_runs_request_of_panel(on_file, qtbot, tmp_path):
    from napari_uhrseg.engine.cluster.client import local_cluster

    with forked_workers(), local_cluster(1) as client:
        give(on_file, client.scheduler.address)
        wait_for_plan(on_file, qtbot)
        hardware, plan = on_file.segment.form.hardware, on_file.segment.plan
        assert not hardware.box.isEnabled()
        assert hardware.memory.text() == "worker default"
        freely = megabytes(plan.text())
        hardware.memory.setValue(freely * 3 // 4)
        wait_for_plan(on_file, qtbot)
        assert megabytes(plan.text()) < freely  # the workers have heard of it
        on_file.segment.bar.start.click()
        status = wait_for_end(on_file, qtbot)
        with LabelStore.open(tmp_path / "labels.zarr") as store:
            assert store.chunk_status().all()
            assert store.prediction[0][:].all()
    assert "Done in" in status


def test_cluster_reports_unreachable_scheduler(on_file, qtbot, monkeypatch):
    connect_quickly(monkeypatch)
    give(on_file, "tcp://127.0.0.1:9")
    bar = on_file.segment.bar
    qtbot.waitUntil(lambda: "no scheduler" in bar.status.text(), timeout=30_000)
