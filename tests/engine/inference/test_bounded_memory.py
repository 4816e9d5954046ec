"""Memory is bounded by the block: a virtual image of 100,000 x 100,000 pixels."""

import pytest

from helpers.processes import run_python

pytestmark = pytest.mark.slow

CHILD = """
import itertools, sys, tempfile
import numpy as np, psutil
from helpers.networks import LEGEND, ToyNet, make_checkpoint
from helpers.segmentation import SETTINGS
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.events import BlockDone, Planned
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore

class Virtual:
    shape, dtype, chunks, ndim = (100_000, 100_000, 3), np.dtype("u1"), (512, 512, 3), 3
    def __getitem__(self, key):
        y = np.arange(key[0].start, key[0].stop)[:, None]
        x = np.arange(key[1].start, key[1].stop)[None]
        value = (((y // 9) ^ (x // 7)) % 251).astype(np.uint8)
        return np.repeat(value[..., None], 3, axis=2)

image = image_from_array(Virtual(), name="virtual", rgb=True)
memory = psutil.Process().memory_info
checkpoint = make_checkpoint(ToyNet(window=256))
with LabelStore.create(None, image, LEGEND) as store:
    events = segment(image, checkpoint, store, SETTINGS,
                     MemoryBudget("cpu", 1 << 30, 1 << 30))
    plan = next(events).plan
    used = []
    done = (e for e in events if isinstance(e, BlockDone))
    for event in itertools.islice(done, 28):
        used.append(memory().rss)
    events.close()
print(plan.windows, event.total, (max(used) - max(used[:20])) >> 20)
"""


def test_memory_is_constant_over_blocks():
    windows, blocks, grown = map(int, run_python(CHILD).split())
    assert windows >= (100_000 // 256) ** 2
    assert blocks == 98 * 98
    # the first twenty blocks fill the bounded cache of decoded chunks; those after
    # them add nothing but noise
    assert grown < 40
