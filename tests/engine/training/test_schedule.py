"""Training settings over a method's recipe, and the learning-rate schedule."""

import pytest
from torch import nn

from napari_uhrseg.engine.training.schedule import Schedule, TrainSettings
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.types import Recipe, Stage

TWO = Recipe(
    stages=(Stage(30, 0.1, trainable=("0.",)), Stage(10, 0.01)), batch_size=4, clip=None
)


def test_recipe_without_choices_is_the_methods_own():
    assert TrainSettings("plain").recipe(TWO) == TWO


def test_recipe_keeps_shares_and_ratios_of_stages():
    settings = TrainSettings(
        "plain",
        steps=80,
        learning_rate=0.2,
        optimizer="adamw",
        clip=1.0,
        weight_decay=0.1,
    )
    recipe = settings.recipe(TWO)
    assert [s.steps for s in recipe.stages] == [60, 20]
    assert [s.learning_rate for s in recipe.stages] == pytest.approx([0.2, 0.02])
    assert recipe.stages[0].trainable == ("0.",)
    assert (recipe.optimizer, recipe.clip, recipe.batch_size) == ("adamw", 1.0, 4)
    assert recipe.weight_decay == 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"validate_every": -1},
        {"log_every": 0},
    ],
)
def test_recipe_refuses_unusable_numbers(wrong):
    with pytest.raises(TrainingError, match="cannot be trained") as error:
        TrainSettings("plain", **wrong).recipe(TWO)
    assert error.value.hint


def test_learning_rate_falls_within_each_stage():
    cosine = Schedule(TWO)
    assert cosine.total == 40
    assert cosine.rate(0) == 0.1
    assert cosine.rate(15) == pytest.approx(0.05)
    assert cosine.rate(30) == 0.01
    assert [s for s in range(40) if cosine.starts_stage(s)] == [0, 30]
    poly = Schedule(Recipe((Stage(10, 1.0),), 2, schedule="poly"))
    assert poly.rate(5) == pytest.approx(0.5**0.9)


def test_optimizer_trains_the_parameters_of_the_stage():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    schedule = Schedule(TWO)
    first = schedule.optimizer(model, 29)
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    assert len(first.param_groups[0]["params"]) == 2
    second = schedule.optimizer(model, 30)
    assert len(second.param_groups[0]["params"]) == 4
    assert second.param_groups[0]["lr"] == 0.01
