"""The legends that come ready."""

import pytest

from napari_uhrseg.models.dataset_legends import LEGENDS, numbered_legend


@pytest.mark.parametrize(
    ("name", "count"),
    [("deepglobe", 7), ("inria", 2), ("potsdam", 6), ("fbp", 24), ("cityscapes", 19)],
)
def test_every_data_set_has_its_classes(name, count):
    legend = LEGENDS[name]
    assert [c.id for c in legend] == list(range(1, count + 1))
    for what in ("name", "color", "source_value"):
        assert len({getattr(c, what) for c in legend}) == count


def test_values_are_those_of_the_data_sets_masks():
    known = {
        ("deepglobe", "urban"): 0x00FFFF,
        ("inria", "building"): 255,
        ("potsdam", "car"): 0xFFFF00,
        ("fbp", "airport"): 24,
        ("cityscapes", "bicycle"): 33,
    }
    for (name, word), value in known.items():
        found = LEGENDS[name].named(word)
        assert found is not None
        assert found.source_value == value


def test_classes_without_names_are_numbered_and_coloured():
    legend = numbered_legend(3)
    assert [c.name for c in legend] == ["class 1", "class 2", "class 3"]
    assert len({c.color for c in numbered_legend(24)}) == 24
