"""Test legends: names, former names and unions."""

from dataclasses import replace

from napari_uhrseg.types import LabelClass, Legend

ROAD = LabelClass(1, "road", "#ff8000", source_value=3)


def test_merged_legend_keeps_all_properties_of_new_classes():
    renamed = Legend((ROAD,)).renamed(1, "street")
    merged = Legend((LabelClass(1, "lake", "#0000ff"),)).merged(renamed)
    assert merged.classes[1] == replace(renamed.classes[0], id=2)
    assert merged.classes[1].former_names == ("road",)


def test_merged_legend_matches_former_names():
    renamed = Legend((ROAD,)).renamed(1, "street")
    assert renamed.merged(Legend((ROAD,))) == renamed


def test_class_survives_json():
    street = Legend((ROAD,)).renamed(1, "street").classes[0]
    assert LabelClass.from_dict(street.to_dict()) == street
    assert "former_names" not in ROAD.to_dict()
