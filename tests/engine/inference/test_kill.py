"""A run killed without warning is continued and ends with the same labels."""

from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from helpers.forked import forked_process
from helpers.networks import LEGEND, ToyNet, make_checkpoint
from helpers.segmentation import BUDGET, SETTINGS, noise_image
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.labels.store import LabelStore

pytestmark = pytest.mark.slow


def segment_and_tell(sender: Connection, path: Path) -> None:
    """Segment into the store and send the number of blocks after each of them."""
    store = LabelStore.open(path, write=True)
    image, checkpoint = noise_image(1100, 2100, 9), make_checkpoint(ToyNet(window=256))
    for event in segment(image, checkpoint, store, SETTINGS, BUDGET):
        if isinstance(event, BlockDone):
            sender.send(event.done)


def test_run_killed_by_sigkill_resumes_with_same_labels(tmp_path):
    image = noise_image(1100, 2100, 9)
    checkpoint = make_checkpoint(ToyNet(window=256))
    with LabelStore.create(tmp_path / "whole.zarr", image, LEGEND) as store:
        list(segment(image, checkpoint, store, SETTINGS, BUDGET))
        expected = store.prediction[0][:]
        coarse = store.prediction[-1][:]

    path = tmp_path / "killed.zarr"
    LabelStore.create(path, image, LEGEND).close()
    with forked_process(segment_and_tell, path) as (_, done):  # killed at the end
        while done.recv() < 3:
            pass

    with LabelStore.open(path, write=True) as store:
        rest = [
            event
            for event in segment(image, checkpoint, store, SETTINGS, BUDGET)
            if isinstance(event, BlockDone)
        ]
        assert 0 < len(rest) <= 6 - 3
        np.testing.assert_array_equal(store.prediction[0][:], expected)
        np.testing.assert_array_equal(store.prediction[-1][:], coarse)
