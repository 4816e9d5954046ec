"""A run under a limit that the system enforces."""

import sys
from multiprocessing.connection import Connection

import numpy as np
import psutil
import pytest

from helpers.forked import forked_process
from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.events import Finished, Planned
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import SegmentSettings

pytestmark = pytest.mark.slow

MB = 1 << 20


def run_within_limits(sender: Connection) -> None:
    """Segment with 3000 MB more than now, then with 200; send what happens."""
    import resource

    pixels = np.random.default_rng(0).integers(0, 255, (2048, 2048, 3), np.uint8)
    image = image_from_array(pixels, name="noise", rgb=True)
    checkpoint = make_checkpoint(ToyNet(window=512))
    settings = SegmentSettings(device="cpu", precision="fp32", threads=1)
    found = []
    for more in (3000, 200):
        with LabelStore.create(None, image, LEGEND) as store:
            held = psutil.Process().memory_info().vms
            resource.setrlimit(resource.RLIMIT_AS, (held + more * MB, -1))
            try:
                budget = MemoryBudget("cpu", 8192 * MB, 8192 * MB)
                for event in segment(image, checkpoint, store, settings, budget):
                    if isinstance(event, Planned):
                        fits = event.plan.estimate.device_bytes <= more * MB
                        found.append(("planned", fits, len(event.plan.warnings)))
                    if isinstance(event, Finished):
                        found.append(("finished", event.failed))
            except DeviceError as error:
                found.append(("refused", "at least" in error.hint))
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    sender.send(found)


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
def test_run_keeps_to_system_memory_limit_or_raises():
    with forked_process(run_within_limits) as (_, answer):
        found = answer.recv()
    assert found == [("planned", True, 1), ("finished", 0), ("refused", True)]
