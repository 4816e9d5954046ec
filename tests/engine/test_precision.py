from toy import ToyNet, make_checkpoint

from napari_uhrseg.engine import device
from napari_uhrseg.engine.plan import make_plan
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
