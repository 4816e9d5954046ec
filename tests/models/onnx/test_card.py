"""Cards of ONNX networks."""

import json

import pytest

from helpers.onnx_networks import DEEPNESS, export, small_network
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.onnx.card import card_path, default_legend, write_card
from napari_uhrseg.models.onnx.description import (
    NetworkDescription,
    deepness_description,
    named_legend,
)
from napari_uhrseg.models.onnx.graph import read_graph


def network(folder, metadata=None, classes: int = 3, **options: object):
    return export(small_network(classes), folder / "net.onnx", metadata, **options)


def names(card) -> list[str]:
    return [c.name for c in card.legend]


def test_metadata_of_deepness_become_a_card(tmp_path):
    card = read_card(network(tmp_path, DEEPNESS | {"seg_thresh": 0.4}))
    spec = card.spec
    assert names(card) == ["background", "field", "water"]
    assert (spec.window, spec.window_overlap, spec.channels) == (64, 16, 3)
    assert spec.pixel_size == 0.2
    assert (spec.mean, spec.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert card.arguments == {"threshold": 0.4}
    assert (card.model, card.name) == ("onnx", "net")


def test_classes_may_be_a_literal_of_python(tmp_path):
    path = network(tmp_path, {"class_names": "{0: 'a', 1: 'b', 2: 'c'}"}, window=64)
    assert names(read_card(path)) == ["a", "b", "c"]


def test_network_without_description_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"names of its classes.*card net\.onnx"):
        read_card(network(tmp_path))
    with pytest.raises(CheckpointError, match="tile_size"):
        read_card(network(tmp_path, {"class_names": ["a", "b", "c"]}))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model_type": "Detector"}, "is a detector"),
        ({"class_names": {0: "a", 2: "b", 3: "c"}}, "gaps"),
        ({"class_names": {0: "a", 1: "a", 2: "c"}}, "twice"),
        ({"class_names": {0: "a", 1: "b"}}, "has 3 classes, and its description has 2"),
        ({"class_names": {k: f"{k}" for k in range(300)}}, "outside 1 to 255"),
        ({"class_names": 5}, "class_names are wrong"),
        ({"tile_size": "big"}, "tile_size is"),
        ({"tile_size": -5}, "tile_size is"),
        ({"tile_size": 1e7}, "too large"),
        ({"resolution": "x" * 100}, "resolution is"),
        ({"tiles_overlap": 100}, "overlap 64 is impossible"),
        ({"standardization_std": [0, 1, 1]}, "not above zero"),
        ({"standardization_mean": [0, 1]}, "not 3 finite numbers"),
        ({"standardization_mean": 1}, "not a list"),
    ],
)
def test_wrong_metadata_are_refused(tmp_path, metadata, message):
    path = network(tmp_path, DEEPNESS | metadata)
    with pytest.raises(CheckpointError, match=message):
        read_card(path)


def test_description_is_stored_beside_the_network(tmp_path):
    path = network(tmp_path)
    graph = read_graph(path)
    assert deepness_description(path, graph) == NetworkDescription()
    described = NetworkDescription(
        legend=named_legend(("wall", "roof", "door")), window=96, overlap=32,
        pixel_size=0.1, value_range=(0, 4095), mean=(0.5,) * 3, std=(0.25,) * 3,
        threshold=0.3,
    )  # fmt: skip
    written = write_card(path, described)
    assert card_path(path) == tmp_path / "net.card.json"
    assert read_card(path) == written
    assert names(written) == ["wall", "roof", "door"]
    assert written.spec.value_range == (0, 4095)
    write_card(path, NetworkDescription(legend=default_legend(graph), window=64))
    assert names(read_card(path)) == ["class 1", "class 2", "class 3"]


def test_stored_card_replaces_the_metadata_and_is_checked(tmp_path):
    path = network(tmp_path, DEEPNESS, window=64)
    write_card(path, NetworkDescription(legend=named_legend(("a", "b", "c"))))
    assert names(read_card(path)) == ["a", "b", "c"]
    stored = card_path(path)
    values = json.loads(stored.read_text())
    for change in (
        {"model": "plain"},
        {"arguments": {"threshold": 1e30}},
        {"arguments": {"path": "x"}},
        {"spec": values["spec"] | {"window": 32}},
        {"spec": values["spec"] | {"channels": 1, "mean": [0], "std": [1]}},
        {"spec": values["spec"] | {"views": {"local": {"extent": 128}}}},
    ):
        stored.write_text(json.dumps(values | change))
        with pytest.raises(CheckpointError):
            read_card(path)
    for text in ("", "[]", "[" * 100_000, "x" * (1 << 21)):
        stored.write_text(text)
        with pytest.raises(CheckpointError, match=r"net\.card\.json"):
            read_card(path)


def test_network_with_one_output_has_a_background(tmp_path):
    one = {"class_names": {0: "tree"}, "tile_size": 64}
    assert names(read_card(network(tmp_path, one, 1))) == ["background", "tree"]
    two = {"class_names": {0: "ground", 1: "tree"}, "tile_size": 64}
    assert names(read_card(network(tmp_path, two, 1))) == ["ground", "tree"]


def test_window_of_a_fixed_input_needs_no_metadata(tmp_path):
    path = network(tmp_path, {"class_names": ["a", "b", "c"]}, window=48)
    assert read_card(path).spec.window == 48
    with pytest.raises(CheckpointError, match="48x48 pixels, not windows of 64"):
        write_card(
            path, NetworkDescription(legend=named_legend(tuple("abc")), window=64)
        )
