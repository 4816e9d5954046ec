"""Training settings over a method's recipe, and the learning-rate schedule."""

import pytest

from helpers.corrections import LEGEND, METHODS
from helpers.networks import EncoderNet
from napari_uhrseg.engine.training.initial_weights import EncoderStart
from napari_uhrseg.engine.training.schedule import Schedule, TrainSettings
from napari_uhrseg.engine.training.stage_parameters import learning_rate_factors
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Recipe, Stage

TWO = Recipe(
    stages=(Stage(30, 0.1, trainable=("encoder.",)), Stage(10, 0.01)),
    batch_size=4,
    clip=None,
)


def test_recipe_without_choices_is_the_methods_own():
    assert TrainSettings("plain").recipe(TWO) == TWO


def test_training_from_python_starts_from_pretrained_weights():
    """It does so on the command line and in the window, too."""
    assert TrainSettings("plain").pretrained
    assert EncoderStart().pretrained


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
    assert recipe.stages[0].trainable == ("encoder.",)
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
    model = EncoderNet()
    schedule = Schedule(TWO)
    first = schedule.optimizer(model, 29)
    assert [p.requires_grad for p in model.parameters()] == [True] * 8 + [False] * 2
    assert len(first.param_groups[0]["params"]) == 8
    second = schedule.optimizer(model, 30)
    assert len(second.param_groups[0]["params"]) == 10
    assert second.param_groups[0]["lr"] == 0.01


def test_learning_rates_increase_with_the_depth_of_the_encoder():
    schedule = Schedule(Recipe((Stage(10, 1.0, encoder_rate=0.01),), 2, "adamw"))
    groups = schedule.optimizer(EncoderNet(), 0).param_groups
    assert [g["factor"] for g in groups] == pytest.approx([0.01, 0.1, 1.0])
    assert [[p.shape[0] for p in g["params"]] for g in groups] == [[4] * 4] * 2 + [
        [2, 2]
    ]


def test_layers_before_the_first_block_have_its_learning_rate():
    model = build("plain", {**METHODS["plain"]}, LEGEND)
    factors = learning_rate_factors(model, 0.1)
    encoder = [v for k, v in factors.items() if k.startswith(model.encoder_prefixes)]
    assert encoder == sorted(encoder)
    assert encoder[0] == pytest.approx(0.1)
    assert encoder[-1] < 1
    assert {v for k, v in factors.items() if "decoder" in k or "head" in k} == {1.0}


def test_stage_with_a_frozen_encoder_repeats_a_quarter_of_its_batches():
    schedule = Schedule(
        Recipe((Stage(8, 1.0, frozen_encoder=True), Stage(3, 1.0)), 2, "adamw")
    )
    numbers = [schedule.batch_number(step) for step in range(schedule.total)]
    assert numbers == [0, 1] * 4 + [8, 9, 10]
