"""Test that the registry agrees with the models that it describes."""

import pytest
import torch

from napari_uhrseg.models.registry import DEFAULT_MODEL, REGISTRY, build
from napari_uhrseg.types import LabelClass, Legend

TWO = Legend((LabelClass(1, "dark", "#000000"), LabelClass(2, "light", "#ffffff")))


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRY)
def test_registry_training_defaults_equal_recipe(name):
    with torch.device("meta"):
        recipe = build(name, {}, TWO).recipe
    entry = REGISTRY[name]
    assert entry.steps == sum(stage.steps for stage in recipe.stages)
    assert entry.batch_size == recipe.batch_size
    assert entry.learning_rate == recipe.stages[0].learning_rate


def test_registry_has_one_default_model():
    assert [name for name, entry in REGISTRY.items() if entry.default] == [
        DEFAULT_MODEL
    ]
