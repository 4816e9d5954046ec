"""Segment all of a project on a cluster, from the window."""

import pytest
from napari.utils.notifications import notification_manager

from helpers.dask_client import connect_quickly
from helpers.forked import forked_workers
from helpers.gated_network import save_networks
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.ui.project.panel import ProjectPanel
from napari_uhrseg.ui.workers.worker import Workers

pytestmark = pytest.mark.slow


@pytest.fixture
def panel(qtbot, file, tmp_path):
    workers = Workers()
    made = ProjectPanel(workers)
    qtbot.addWidget(made)
    made.open(file.path)
    qtbot.waitUntil(lambda: made.list.count() == 3)
    made.set_checkpoint(save_networks(tmp_path, "tu-test_efficientnet")[0])
    yield made
    made.stop()
    workers.close()


def segment_all(panel, qtbot, address):
    panel.cluster.line.setText(address)
    signals = [panel.busyChanged, panel.busyChanged]
    with qtbot.waitSignals(signals, timeout=60_000):
        panel.segment_all.click()


def test_workers_segment_the_images_of_the_list(panel, file, qtbot):
    from napari_uhrseg.engine.cluster.client import local_cluster

    with forked_workers(), local_cluster(1) as client:
        segment_all(panel, qtbot, client.scheduler.address)
    assert "gone.tif does not exist" in panel.status.text()
    for name in ("red.tif", "blue.tif"):
        with LabelStore.open(file.folder / f"labels/{name}.labels.zarr") as store:
            assert store.chunk_status().all()
            assert store.prediction[0][:].all()
    assert [i.state for i in file.read().images] == ["corrected", "segmented", "new"]


def test_unreachable_scheduler_ends_the_run(panel, file, qtbot, monkeypatch):
    connect_quickly(monkeypatch)
    segment_all(panel, qtbot, "tcp://127.0.0.1:9")
    said = [note.message for note in notification_manager.records]
    assert any("no scheduler" in message for message in said)
    assert panel.segment_all.isEnabled()
    assert [i.state for i in file.read().images] == ["new", "new", "new"]
