"""Distillation targets, distillation weight and weight interpolation."""

from dataclasses import replace

import pytest
import torch

from helpers.corrections import checkpoint
from napari_uhrseg.engine.finetuning.distillation import (
    ERROR_CELL,
    ERROR_MARGIN,
    WISE_FT_ALPHA,
    DistillationLoss,
    distillation_weight,
    interpolate_weights,
)
from napari_uhrseg.engine.network.activation_memory import zero_batch
from napari_uhrseg.types import IGNORED

SIDE = 256


class Says(torch.nn.Module):
    """A teacher, confident of class 0 on the left and of class 1 on the right."""

    def forward(self, batch):
        logits = torch.zeros(1, 2, SIDE, SIDE)
        logits[:, 0, :, : SIDE // 2] = logits[:, 1, :, SIDE // 2 :] = 9.0
        return {"logits": logits}


def targets(target, tmp_path):
    spec = checkpoint(tmp_path).model.spec
    batch = zero_batch(spec, 1, None, torch.device("cpu"))
    return DistillationLoss(Says(), 1.0).targets(replace(batch, target=target))[0]


@pytest.mark.slow
def test_targets_leave_out_the_wrong_class_around_a_mistake(tmp_path):
    target = torch.full((1, SIDE, SIDE), IGNORED)
    target[0, 100, 100] = 1  # where the old model says 0
    found = targets(target, tmp_path)
    near, far = ERROR_CELL * ERROR_MARGIN, ERROR_CELL * (ERROR_MARGIN + 1)
    assert (found[100 - near : 100 + near, 100 - near : 120] == IGNORED).all()
    assert (found[:, SIDE // 2 :] == 1).all()  # as near, but not the answer found wrong
    assert (found[100 + far :, : SIDE // 2] == 0).all()


@pytest.mark.slow
def test_targets_keep_everything_around_a_confirmed_prediction(tmp_path):
    target = torch.full((1, SIDE, SIDE), IGNORED)
    target[0, 100, 100] = 0
    found = targets(target, tmp_path)
    assert found[100, 100] == IGNORED  # corrected, so no distillation
    assert (found != IGNORED).sum() == SIDE * SIDE - 1


@pytest.mark.parametrize(
    ("right", "weight"),
    [(0.0, 0.25), (0.2, 0.8), (0.3, 1.0), (0.5, 1.0), (0.6, 1.5), (0.95, 2.0)],
)
def test_distillation_weight_grows_with_accuracy(right, weight):
    assert distillation_weight(right) == pytest.approx(weight)


@pytest.mark.slow
def test_interpolate_weights_changes_neither_network(tmp_path):
    old, new = (checkpoint(tmp_path, seed=seed).model for seed in (0, 1))
    before = {k: v.clone() for k, v in new.state_dict().items()}
    found = interpolate_weights(old, new).state_dict()
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, before[name])
        expected = tensor
        if tensor.is_floating_point():
            expected = (1 - WISE_FT_ALPHA) * old.state_dict()[
                name
            ] + WISE_FT_ALPHA * tensor
        torch.testing.assert_close(found[name], expected)
