"""A run under a limit that the system enforces."""

import sys

import pytest

from helpers.processes import run_python

pytestmark = pytest.mark.slow

CHILD = """
import resource
import numpy as np, psutil, torch
from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.events import Finished, Planned
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import SegmentSettings

MB = 1 << 20
pixels = np.random.default_rng(0).integers(0, 255, (2048, 2048, 3), np.uint8)
image = image_from_array(pixels, name="noise", rgb=True)
checkpoint = make_checkpoint(ToyNet(window=512))
settings = SegmentSettings(device="cpu", precision="fp32", threads=1)
for more in (3000, 200):
    with LabelStore.create(None, image, LEGEND) as store:
        held = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (held + more * MB, -1))
        try:
            budget = MemoryBudget("cpu", 8192 * MB, 8192 * MB)
            for event in segment(image, checkpoint, store, settings, budget):
                if isinstance(event, Planned):
                    print("planned", event.plan.estimate.device_bytes <= more * MB,
                          len(event.plan.warnings))
                if isinstance(event, Finished):
                    print("finished", event.failed)
        except DeviceError as error:
            print("refused", "at least" in error.hint)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
def test_run_keeps_to_system_memory_limit_or_raises():
    printed = run_python(CHILD, OMP_NUM_THREADS="1")
    assert printed.splitlines() == [
        "planned True 1",
        "finished 0",
        "refused True",
    ]
