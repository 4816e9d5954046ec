"""Which weights of a fine-tuning are kept."""

import copy

import pytest
import torch
from correcting import LEGEND, checkpoint, squares, stroke_everywhere

from napari_uhrseg.engine.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.judging import Judge
from napari_uhrseg.engine.keeping import WAY
from napari_uhrseg.engine.lesson import gather
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint

HOW = FineTuneSettings(steps=150, batch_size=4, learning_rate=0.004, device="cpu")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A network that has learnt nothing, what it became, and what judges."""
    folder = tmp_path_factory.mktemp("learnt")
    truth, image = squares()
    start = checkpoint(folder)
    with LabelStore.create(folder / "labels.zarr", image, LEGEND) as store:
        stroke_everywhere(store, truth)
        for _ in fine_tune(image, start, store, folder / "new.safetensors", HOW):
            pass
        new = load_checkpoint(folder / "new.safetensors")

        def judge(old):
            source = gather(image, new, store, None)
            return Judge(source, old, 4, torch.device("cpu"), "fp32")

        yield start.model, new.model, judge


def test_a_network_that_fits_keeps_some_of_its_weights(learnt):
    _, fits, judge = learnt
    further = copy.deepcopy(fits)
    with torch.no_grad():
        for parameter in further.parameters():
            parameter.mul_(1.01)
    judged = judge(fits)
    kept = judged.kept(further)
    assert kept is not further
    assert judged.right(kept) > 0.7
    one = next(iter(fits.state_dict()))
    a, b, c = (m.state_dict()[one] for m in (fits, kept, further))
    torch.testing.assert_close(b, a + WAY * (c - a))


def test_a_network_that_knew_nothing_gives_way(learnt):
    nothing, fits, judge = learnt
    judged = judge(nothing)
    assert judged.right(nothing) < 0.6
    assert judged.right(fits) > 0.7
    assert judged.kept(fits) is fits
