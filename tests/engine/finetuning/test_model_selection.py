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
def make_validator(tmp_path_factory):
    """Return a validator on right corrections of squares, for an old threshold."""
    truth, image = squares()
    path = tmp_path_factory.mktemp("validator") / "labels.zarr"
    with LabelStore.create(path, image, LEGEND) as store:
        stroke_everywhere(store, truth)
        source = build_dataset(image, make_checkpoint(Threshold(BETWEEN)), store, None)
        yield lambda old: Validator(
            source, Threshold(old).eval(), 4, torch.device("cpu"), "fp32"
        )


# an old network that fits, and one that has some of the light squares wrong
@pytest.mark.parametrize(("old", "new"), [(BETWEEN, 112.0), (150.0, 100.0)])
def test_select_weights_interpolates_if_the_result_fits(make_validator, old, new):
    validator, tuned = make_validator(old), Threshold(new).eval()
    kept = validator.select_weights(tuned)
    assert kept is not tuned
    assert validator.accuracy_on_corrections(kept) == 1
    assert kept.threshold.item() == pytest.approx(old + WISE_FT_ALPHA * (new - old))
    assert tuned.threshold.item() == new


def test_select_weights_ignores_an_original_that_does_not_fit(make_validator):
    validator, tuned = make_validator(FAR), Threshold(BETWEEN).eval()
    assert (
        validator.original_accuracy
        == validator.accuracy_on_corrections(Threshold(FAR).eval())
        == 0.5
    )
    assert validator.accuracy_on_corrections(tuned) == 1
    assert validator.select_weights(tuned) is tuned


def test_select_weights_interpolates_without_any_gain(make_validator):
    validator, tuned = make_validator(FAR), Threshold(FAR / 2).eval()
    kept = validator.select_weights(tuned)
    assert kept is not tuned
    assert validator.accuracy_on_corrections(kept) == validator.original_accuracy == 0.5
