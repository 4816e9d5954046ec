"""Selection of the weights that a fine-tuning keeps."""

from dataclasses import replace

import pytest
import torch

from helpers.corrections import squares, stroke_everywhere
from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.finetuning.distillation import WISE_FT_ALPHA
from napari_uhrseg.engine.finetuning.model_selection import Validator
from napari_uhrseg.engine.finetuning.training_summary import build_dataset
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.base import Batch, Outputs

BETWEEN = 105.0  # a grey value between those of the dark and of the light squares
FAR = 10_000.0


class Threshold(ToyNet):
    """A network of one weight, a grey value: below it is class 1, above it class 2."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.spec = replace(
            self.spec, value_range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3
        )
        self.threshold = torch.nn.Parameter(torch.tensor(threshold))

    def forward(self, batch: Batch) -> Outputs:
        above = 255 * batch.views["local"].mean(1) - self.threshold
        return {"logits": torch.stack([-above, above, -above.abs() - 1], 1)}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Return a judge on right corrections of squares, for an old threshold."""
    truth, image = squares()
    path = tmp_path_factory.mktemp("judge") / "labels.zarr"
    with LabelStore.create(path, image, LEGEND) as store:
        stroke_everywhere(store, truth)
        source = build_dataset(image, make_checkpoint(Threshold(BETWEEN)), store, None)
        yield lambda old: Validator(
            source, Threshold(old).eval(), 4, torch.device("cpu"), "fp32"
        )


# an old network that fits, and one that has some of the light squares wrong
@pytest.mark.parametrize(("old", "new"), [(BETWEEN, 112.0), (150.0, 100.0)])
def test_weights_nearer_to_the_old_ones_are_kept_if_they_fit(judge, old, new):
    judged, tuned = judge(old), Threshold(new).eval()
    kept = judged.select_weights(tuned)
    assert kept is not tuned
    assert judged.accuracy_on_corrections(kept) == 1
    assert kept.threshold.item() == pytest.approx(old + WISE_FT_ALPHA * (new - old))
    assert tuned.threshold.item() == new


def test_a_network_that_fits_nothing_keeps_no_weight(judge):
    judged, tuned = judge(FAR), Threshold(BETWEEN).eval()
    assert (
        judged.original_accuracy
        == judged.accuracy_on_corrections(Threshold(FAR).eval())
        == 0.5
    )
    assert judged.accuracy_on_corrections(tuned) == 1
    assert judged.select_weights(tuned) is tuned


def test_without_any_gain_weights_nearer_to_the_old_ones_are_kept(judge):
    judged, tuned = judge(FAR), Threshold(FAR / 2).eval()
    kept = judged.select_weights(tuned)
    assert kept is not tuned
    assert judged.accuracy_on_corrections(kept) == judged.original_accuracy == 0.5
