from dataclasses import replace

import pytest

from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.events import BlockDone, Finished
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network import device
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import SegmentSettings

CPU = device.find_device("cpu")


def test_a_cpu_made_for_bf16_runs_in_it_and_learns_in_float32(monkeypatch, picture):
    image, checkpoint = picture(256, 256), make_checkpoint(ToyNet())

    def planned(precision):
        settings = SegmentSettings("cpu", precision=precision)
        return make_plan(image, checkpoint, settings).run.precision

    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    assert planned("auto") == "bf16"
    assert planned("fp32") == "fp32"
    assert device.training_precision("auto", CPU) == "fp32"
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    assert planned("auto") == "fp32"


def test_prepare_keeps_precision_of_run_to_continue(monkeypatch, tmp_path, picture):
    image, checkpoint = picture(1024, 2048), make_checkpoint(ToyNet())
    path, settings = tmp_path / "s.zarr", SegmentSettings("cpu", batch_size=4)
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    with LabelStore.create(path, image, LEGEND) as store:
        events = segment(image, checkpoint, store, settings, stop=lambda: False)
        assert any(isinstance(e, BlockDone) for e in events)  # and no further
        events.close()
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)  # another machine
    with LabelStore.open(path, write=True) as store:
        planned, *_, last = segment(image, checkpoint, store, settings)
        assert planned.plan.run.precision == "bf16"
        assert isinstance(last, Finished)
        assert len(store.runs) == 1
        fp32 = replace(settings, precision="fp32")  # as the person asks
        with pytest.raises(StoreError, match="other settings"):
            list(segment(image, checkpoint, store, fp32))
