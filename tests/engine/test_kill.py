"""A run killed without warning is continued and ends with the same labels."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from toy import LEGEND, ToyNet, make_checkpoint

from napari_uhrseg.engine.device import MemoryBudget
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.segment import segment
from napari_uhrseg.io.image import Image
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.types import SegmentSettings

CHILD = """
import sys
import numpy as np
from test_kill import BUDGET, SETTINGS, make_image
from toy import ToyNet, make_checkpoint
from napari_uhrseg.engine import plan
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.segment import segment
from napari_uhrseg.io.labels import LabelStore

plan._block_chunks = lambda *_: 1  # small blocks, however fast the machine is
store = LabelStore.open(sys.argv[1], write=True)
for event in segment(
    make_image(), make_checkpoint(ToyNet(window=128)), store, SETTINGS, BUDGET
):
    if isinstance(event, BlockDone):
        print(event.done, flush=True)
"""

BUDGET = MemoryBudget("cpu", 1 << 30, 1 << 30)
SETTINGS = SegmentSettings(device="cpu", precision="fp32", batch_size=4, threads=1)


def make_image() -> Image:
    data = np.random.default_rng(9).integers(0, 255, (3100, 3100, 3), np.uint8)
    return Image.from_array(data, name="noise", rgb=True)


def test_kill_minus_nine_then_continue(tmp_path):
    image, checkpoint = make_image(), make_checkpoint(ToyNet(window=128))
    with LabelStore.create(tmp_path / "whole.zarr", image, LEGEND) as store:
        list(segment(image, checkpoint, store, SETTINGS, BUDGET))
        expected = store.prediction[0][:]
        coarse = store.prediction[-1][:]

    path = tmp_path / "killed.zarr"
    LabelStore.create(path, image, LEGEND).close()
    tests = Path(__file__).parents[1]
    search = os.pathsep.join([str(tests), str(tests / "engine")])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 5:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()

    with LabelStore.open(path, write=True) as store:
        rest = [
            event
            for event in segment(image, checkpoint, store, SETTINGS, BUDGET)
            if isinstance(event, BlockDone)
        ]
        assert 0 < len(rest) <= 16 - 5
        np.testing.assert_array_equal(store.prediction[0][:], expected)
        np.testing.assert_array_equal(store.prediction[-1][:], coarse)
