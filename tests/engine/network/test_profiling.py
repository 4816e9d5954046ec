"""Tests of the profile of a network: its cache, and too little memory."""

import json

import pytest
import torch

from helpers.corrections import checkpoint
from napari_uhrseg.engine.network.device import Device
from napari_uhrseg.engine.network.profiling import Profiler
from napari_uhrseg.errors import DeviceError

CPU = Device("cpu", "This CPU", 2**33)


@pytest.fixture
def profiler(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path / "cache"))
    return Profiler(checkpoint(tmp_path), CPU, "fp32", 1)


@pytest.mark.slow
def test_profile_is_read_from_the_cache(profiler, tmp_path):
    profiler.batch(1)
    (file,) = (tmp_path / "cache").rglob("*.calibration.json")
    file.write_text(json.dumps({"seconds": 7.0, "bytes": 9}))
    found = profiler.batch(1)
    assert (found.seconds, found.bytes) == (7.0, 9)


DAMAGED = [
    "",
    '{"seconds": 1',
    "[1, 2]",
    '{"seconds": "fast", "bytes": 9}',
    '{"seconds": NaN, "bytes": 9}',
    '{"seconds": 1.0, "bytes": null}',
    '{"seconds": -1.0, "bytes": -5}',
    "\x00\x01",
    '{"seconds": 1.0, "bytes": 1e400}',
    "[" * 100_000,
]


@pytest.mark.slow
def test_damaged_profile_is_measured_again(profiler, tmp_path):
    profiler.batch(1)
    (file,) = (tmp_path / "cache").rglob("*.calibration.json")
    for text in DAMAGED:
        file.write_text(text)
        found = profiler.batch(1)
        assert found.seconds > 0, text[:40]
        assert found.bytes > 0, text[:40]
        assert json.loads(file.read_text()) == {
            "seconds": found.seconds, "bytes": found.bytes
        }, text[:40]  # fmt: skip


@pytest.mark.slow
def test_cpu_with_too_little_memory_is_not_advised_to_use_the_cpu(profiler):
    def no_memory(_, inputs):
        if not inputs[0].is_meta:  # the network is traced without data first
            raise MemoryError

    for module in profiler.checkpoint.model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(no_memory)
    with pytest.raises(DeviceError, match="This CPU has too little memory") as error:
        profiler.batch(1)
    assert error.value.hint == "Close other programs that use it."
