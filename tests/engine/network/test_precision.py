from dataclasses import replace

import pytest
import torch

from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.events import BlockDone, Finished
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import find_device, training_precision
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, SegmentSettings

CPU = find_device("cpu")


def support_bf16(monkeypatch, supported):
    """Have torch report a CPU with or without bf16 units."""
    found = {"avx512_bf16": supported}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)


def test_a_cpu_made_for_bf16_runs_in_it_and_learns_in_float32(monkeypatch, picture):
    image, checkpoint = picture(256, 256), make_checkpoint(ToyNet())

    def planned(precision):
        settings = SegmentSettings("cpu", precision=precision)
        return make_plan(image, checkpoint, settings).run.precision

    support_bf16(monkeypatch, True)
    assert planned("auto") == "bf16"
    assert planned("fp32") == "fp32"
    assert training_precision("auto", CPU) == "fp32"
    support_bf16(monkeypatch, False)
    assert planned("auto") == "fp32"


@pytest.mark.slow
def test_prepare_keeps_precision_of_run_to_continue(monkeypatch, tmp_path, picture):
    image, checkpoint = picture(600, 1200), make_checkpoint(ToyNet(256))
    settings = SegmentSettings("cpu", batch_size=4, limits=Limits(block_chunks=1))
    path = tmp_path / "s.zarr"
    support_bf16(monkeypatch, True)
    with LabelStore.create(path, image, LEGEND) as store:
        events = segment(image, checkpoint, store, settings, stop=lambda: False)
        assert any(isinstance(e, BlockDone) for e in events)  # and no further
        events.close()
    support_bf16(monkeypatch, False)  # another machine
    with LabelStore.open(path, write=True) as store:
        planned, *_, last = segment(image, checkpoint, store, settings)
        assert planned.plan.run.precision == "bf16"
        assert isinstance(last, Finished)
        assert len(store.runs) == 1
        fp32 = replace(settings, precision="fp32")  # as the person asks
        with pytest.raises(StoreError, match="other settings"):
            list(segment(image, checkpoint, store, fp32))
