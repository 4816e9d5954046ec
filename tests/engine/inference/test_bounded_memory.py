"""Memory is bounded by the block: a virtual image of 100,000 x 100,000 pixels."""

from itertools import islice
from multiprocessing.connection import Connection

import numpy as np
import psutil
import pytest

from helpers.forked import forked_process
from helpers.networks import LEGEND, ToyNet, make_checkpoint
from helpers.segmentation import SETTINGS
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore

pytestmark = pytest.mark.slow


class Virtual:
    shape, dtype, chunks, ndim = (100_000, 100_000, 3), np.dtype("u1"), (512, 512, 3), 3

    def __getitem__(self, key):
        y = np.arange(key[0].start, key[0].stop)[:, None]
        x = np.arange(key[1].start, key[1].stop)[None]
        value = (((y // 9) ^ (x // 7)) % 251).astype(np.uint8)
        return np.repeat(value[..., None], 3, axis=2)


def measure_blocks(sender: Connection) -> None:
    """Send windows and blocks of the image, and the MB that the last blocks add."""
    image = image_from_array(Virtual(), name="virtual", rgb=True)
    memory = psutil.Process().memory_info
    checkpoint = make_checkpoint(ToyNet(window=256))
    budget = MemoryBudget("cpu", 1 << 30, 1 << 30)
    with LabelStore.create(None, image, LEGEND) as store:
        events = segment(image, checkpoint, store, SETTINGS, budget)
        plan = next(events).plan
        done = (e for e in events if isinstance(e, BlockDone))
        used = [(memory().rss, event.total) for event in islice(done, 28)]
        events.close()
    resident = [rss for rss, _ in used]
    grown = (max(resident) - max(resident[:20])) >> 20
    sender.send((plan.windows, used[-1][1], grown))


def test_memory_is_constant_over_blocks():
    with forked_process(measure_blocks) as (_, answer):
        windows, blocks, grown = answer.recv()
    assert windows >= (100_000 // 256) ** 2
    assert blocks == 98 * 98
    # the first twenty blocks fill the bounded cache of decoded chunks; those after
    # them add nothing but noise
    assert grown < 40
