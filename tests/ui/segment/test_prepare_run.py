"""Tests of the check of the output before a run; needs no window."""

from dataclasses import replace

import numpy as np
import pytest

from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, SegmentSettings
from napari_uhrseg.ui.segment.worker import (
    SegmentRequest,
    budget_of,
    checkpoint_of,
    plan,
    prepare,
)

BUDGET = 1 << 30


def noise(side: int) -> Image:
    data = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    return image_from_array(data, name="noise", rgb=True, pixel_size=(0.5, 0.5))


@pytest.fixture
def asked(checkpoints, tmp_path) -> SegmentRequest:
    settings = SegmentSettings(device="cpu", batch_size=2)
    return SegmentRequest(
        noise(300), checkpoints[0], settings, BUDGET, tmp_path / "labels.zarr"
    )


def begin(request: SegmentRequest, precision: str) -> None:
    """Make the output with that precision, as another machine might have."""
    checkpoint = checkpoint_of(request.checkpoint)
    settings = replace(request.settings, precision=precision)
    budget = budget_of("cpu", BUDGET)
    with LabelStore.create(
        request.output, request.image, checkpoint.card.legend
    ) as store:
        for _ in segment(request.image, checkpoint, store, settings, budget):
            pass


@pytest.mark.slow
def test_prepare_keeps_precision_of_run_to_continue(asked):
    here = plan(asked).run.precision
    there = "fp32" if here == "bf16" else "bf16"
    assert prepare(asked).plan.run.precision == here  # nothing there yet
    begin(asked, there)

    found = prepare(asked)
    assert found.request.settings == replace(asked.settings, precision=there)
    assert found.plan.run.precision == there
    assert found.replaces == ()  # it is that run, and would replace nothing

    chosen = replace(asked, settings=replace(asked.settings, precision=here))
    found = prepare(chosen)
    assert found.request == chosen
    assert found.plan.run.precision == here
    assert found.replaces == ("number 0",)  # whose labels these are


def test_prepare_refuses_labels_of_another_image(asked):
    begin(asked, "fp32")
    with pytest.raises(StoreError, match="labels of another image"):
        prepare(replace(asked, image=noise(310)))


def test_prepare_asks_for_classes_that_the_labels_lack(asked):
    own = Legend((LabelClass(1, "dark", "#101010"), LabelClass(2, "sun", "#f0f0f0")))
    LabelStore.create(asked.output, asked.image, own).close()
    found = prepare(asked)
    (question,) = found.questions
    assert question.missing == ("light",)
    assert found.classes == ("dark", "sun")
    settings = replace(asked.settings, class_names=(("light", "sun"),))
    assert not prepare(replace(asked, settings=settings)).questions
