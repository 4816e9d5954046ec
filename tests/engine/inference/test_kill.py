"""A run killed without warning is continued and ends with the same labels."""

import signal

import numpy as np
import pytest

from helpers.networks import LEGEND, ToyNet, make_checkpoint
from helpers.processes import python_process
from helpers.segmentation import BUDGET, SETTINGS, noise_image
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.labels.store import LabelStore

pytestmark = pytest.mark.slow

CHILD = """
import sys
import numpy as np
from helpers.networks import ToyNet, make_checkpoint
from helpers.segmentation import BUDGET, SETTINGS, noise_image
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.labels.store import LabelStore

store = LabelStore.open(sys.argv[1], write=True)
image, checkpoint = noise_image(2100, 2100, 9), make_checkpoint(ToyNet(window=256))
for event in segment(image, checkpoint, store, SETTINGS, BUDGET):
    if isinstance(event, BlockDone):
        print(event.done, flush=True)
"""


def test_run_killed_by_sigkill_resumes_with_same_labels(tmp_path):
    image = noise_image(2100, 2100, 9)
    checkpoint = make_checkpoint(ToyNet(window=256))
    with LabelStore.create(tmp_path / "whole.zarr", image, LEGEND) as store:
        list(segment(image, checkpoint, store, SETTINGS, BUDGET))
        expected = store.prediction[0][:]
        coarse = store.prediction[-1][:]

    path = tmp_path / "killed.zarr"
    LabelStore.create(path, image, LEGEND).close()
    with python_process(CHILD, path) as child:
        for line in child.stdout:
            if int(line) == 3:
                break
        child.send_signal(signal.SIGKILL)

    with LabelStore.open(path, write=True) as store:
        rest = [
            event
            for event in segment(image, checkpoint, store, SETTINGS, BUDGET)
            if isinstance(event, BlockDone)
        ]
        assert 0 < len(rest) <= 9 - 3
        np.testing.assert_array_equal(store.prediction[0][:], expected)
        np.testing.assert_array_equal(store.prediction[-1][:], coarse)
