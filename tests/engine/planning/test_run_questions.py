"""Test the questions before a run: pixel size, scale, bands and classes."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.engine.planning.run_questions import (
    accepted,
    check_answered,
    class_ids,
    image_questions,
    open_questions,
)
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Band, Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import InputSpec, LabelClass, Legend, SegmentSettings, View

PLAIN = SegmentSettings()
NETWORK = Legend((LabelClass(1, "lake", "#000000"), LabelClass(2, "roof", "#ffffff")))


def spec(pixel_size: float | None = 0.5, channels: int = 3) -> InputSpec:
    half = (0.5,) * channels
    return InputSpec(
        {"local": View(64)}, 64, channels, mean=half, std=half, pixel_size=pixel_size
    )


def image(
    pixel_size: float | None = 0.5, names: tuple[str, ...] = ("red", "green", "blue")
) -> Image:
    sizes = None if pixel_size is None else (pixel_size, pixel_size)
    array = np.zeros((8, 8, len(names)), np.uint16)
    made = image_from_array(
        array, name="new", axes="yxs", pixel_size=sizes, unit="metre"
    )
    made.bands = tuple(map(Band, names))
    return made


def topics(image: Image, spec: InputSpec, settings: SegmentSettings = PLAIN) -> list:
    return [q.topic for q in image_questions(image, spec, settings)]


@pytest.mark.parametrize(
    ("pixel_size", "asked"),
    [(0.5, []), (2.0, []), (0.125, []), (2.1, ["scale"]), (None, ["pixel_size"])],
)
def test_a_scale_beyond_four_and_an_unknown_pixel_size_are_asked_for(pixel_size, asked):
    made = image(pixel_size)
    assert topics(made, spec()) == asked
    assert topics(made, spec(), SegmentSettings(scale=1.0)) == []
    assert topics(made, spec(None)) == []


def test_question_of_the_scale_names_both_pixel_sizes_and_the_option():
    (question,) = image_questions(image(0.5e-6), spec(), PLAIN)
    assert "trained at 50 cm per pixel" in question.text
    assert "new has 0.5 µm per pixel" in question.text
    assert "--scale 64" in question.answer
    (question,) = image_questions(image(None), spec(), PLAIN)
    assert "trained at 50 cm per pixel" in question.text
    assert "pixel size of new is unknown" in question.text
    assert question.pixel_size == 0.5


@pytest.mark.parametrize(
    ("names", "channels", "text"),
    [
        (("elevation",), 3, "has one: elevation"),
        (("a", "b", "c", "d"), 3, "which of them are red, green and blue"),
        (("red", "green", "blue", "nir"), 3, None),
        (("a", "b", "c"), 3, None),
        (("a", "b", "c", "d", "e"), 4, "which of them are those of the training"),
        (("a", "b", "c", "d"), 4, None),
    ],
)
def test_bands_of_unknown_colour_are_asked_for(names, channels, text):
    found = image_questions(image(0.5, names), spec(0.5, channels), PLAIN)
    assert bool(found) == (text is not None)
    if text is not None:
        assert found[0].topic == "bands"
        assert text in found[0].text
        assert "--bands" in found[0].answer
        chosen = SegmentSettings(bands=(0,) * channels)
        assert topics(image(0.5, names), spec(0.5, channels), chosen) == []


def test_accepted_settings_leave_no_question():
    made = image(None, ("a", "b", "c", "d"))
    settings = accepted(PLAIN, made, spec())
    assert (settings.scale, settings.bands) == (1.0, (0, 1, 2))
    assert topics(made, spec(), settings) == []


@pytest.fixture
def store():
    with LabelStore.create(None, FakeImage((100, 120)), LEGEND) as made:
        yield made


def test_classes_that_the_labels_lack_are_asked_for(store):
    classes = class_ids(NETWORK, store, PLAIN)
    assert classes.ids == (2, 3)
    assert classes.unanswered == ("roof",)
    (question,) = open_questions((), RUN, classes, store)
    assert "lack: 'roof'" in question.text
    assert "have: 'road', 'lake'" in question.text
    assert question.missing == ("roof",)
    with pytest.raises(PlanError, match="lack: 'roof'") as error:
        check_answered((question,))
    assert "--map-class roof=NAME" in error.value.hint
    assert "--add-classes" in error.value.hint


@pytest.mark.parametrize(
    ("settings", "ids", "added"),
    [
        (SegmentSettings(add_classes=True), (2, 3), ["roof"]),
        (SegmentSettings(class_names=(("roof", "roof"),)), (2, 3), ["roof"]),
        (SegmentSettings(class_names=(("roof", "road"),)), (2, 1), []),
        (SegmentSettings(class_names=(("roof", ""),)), (2, 0), []),
        (SegmentSettings(class_names=(("roof", ""), ("lake", "road"))), (1, 0), []),
    ],
)
def test_settings_map_classes_by_name(store, settings, ids, added):
    classes = class_ids(NETWORK, store, settings)
    assert classes.ids == ids
    assert [c.name for c in classes.added] == added
    assert not open_questions((), RUN, classes, store)


@pytest.mark.parametrize(
    ("pair", "text"),
    [(("sea", "lake"), "checkpoint has no class 'sea'"),
     (("roof", "sea"), "labels have no class 'sea'")],
)  # fmt: skip
def test_unknown_class_names_are_refused(store, pair, text):
    with pytest.raises(PlanError, match=text):
        class_ids(NETWORK, store, SegmentSettings(class_names=(pair,)))


def test_an_earlier_run_of_the_checkpoint_answers(store):
    questions = image_questions(image(None, ("a", "b", "c", "d")), spec(), PLAIN)
    assert [q.topic for q in questions] == ["pixel_size", "bands"]
    planned = replace(RUN, class_map=(), scale=1.0)
    classes = class_ids(NETWORK, store, PLAIN, RUN.checkpoint_hash)
    assert len(open_questions(questions, planned, classes, store)) == 3
    store.run_ledger.start_run(replace(RUN, class_map=(2, 0), scale=1.0))
    classes = class_ids(NETWORK, store, PLAIN, RUN.checkpoint_hash)
    assert classes.ids == (2, 0)
    assert not open_questions(questions, planned, classes, store)
    other = replace(planned, checkpoint_hash="other")
    assert len(open_questions(questions, other, classes, store)) == 2
