"""``napari-uhrseg train`` and ``evaluate`` as people type them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.cli.train import parse_arguments, parse_validate
from napari_uhrseg.models.card_header import read_card


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def train(files, tmp_path):
    """Some steps of a small network on the three pictures."""

    def run(*options: object):
        return invoke(
            "train", "--images", files / "images", "--masks", files / "masks",
            "--model", "plain", "--output", tmp_path / "net.safetensors",
            "--architecture", "Unet", "--encoder", "tu-mobilenetv4_conv_small_050",
            "--argument", "window=64", "--device", "cpu", "--ignore", 9,
            "--batch-size", 4, "--validate", "2", *options,
        )  # fmt: skip

    return run


def test_a_trained_checkpoint_labels_what_it_has_learned(train, files, tmp_path):
    result = train("--steps", 25, "--learning-rate", 0.003, "--optimizer", "adamw")
    assert result.exit_code == 0, result.output
    assert "mIoU" in result.stdout
    card = read_card(tmp_path / "net.safetensors")
    assert card.trained_on == "images: 0, 1"
    assert [c.source_value for c in card.legend] == [0, 1]
    assert not list(tmp_path.glob("*.state"))
    result = invoke(
        "evaluate", files / "images", files / "masks", "--ignore", 9, "--json",
        "--checkpoint", tmp_path / "net.safetensors", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    *each, total = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["name"] for one in each] == ["0", "1", "2"]
    assert total["metrics"]["miou"] > 0.7
    assert {"iou/class 0", "f1/class 1", "accuracy"} <= set(total["metrics"])


def test_the_card_says_what_the_person_says_of_the_weights(train, tmp_path):
    said = {
        "name": "Squares, small", "licence": "CC0-1.0",
        "source": "https://example.org/squares", "citation": "Nobody, Squares, 2025",
    }  # fmt: skip
    options = [x for key, value in said.items() for x in (f"--{key}", value)]
    result = train("--steps", 1, *options)
    assert result.exit_code == 0, result.output
    path = tmp_path / "net.safetensors"
    card = read_card(path)
    assert {key: getattr(card, key) for key in said} == said
    shown = invoke("info", path).stdout
    for value in said.values():
        assert value in shown
    assert train("--steps", 1, "--overwrite").exit_code == 0
    assert read_card(path).name == "net"  # unless said otherwise: the file's


def test_training_as_json(train):
    result = train("--steps", 2, "--json")
    assert result.exit_code == 0, result.output
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert {"fitted", "progress", "trained", "validated", "saved"} == set(events)


def test_a_finished_checkpoint_is_not_overwritten_unasked(train):
    assert train("--steps", 1).exit_code == 0
    result = train("--steps", 1)
    assert result.exit_code == 1
    assert "exists" in result.stderr
    assert train("--steps", 1, "--overwrite").exit_code == 0


def test_what_cannot_be_trained_is_said_in_words(files, tmp_path):
    common = ("--output", tmp_path / "n.safetensors", "--device", "cpu")
    folders = ("--images", files / "images", "--masks", files / "masks")
    for options, said in (
        (("--model", "magic", *folders), "magic"),
        (("--model", "plain", *folders, "--validate", "no"), "no scene named no"),
        (("--model", "plain", *folders[:2], "--masks", tmp_path / "no"), "no"),
    ):
        result = invoke("train", *options, *common)
        assert result.exit_code == 1, result.output
        assert said in result.stderr
        assert "Traceback" not in result.output


def test_values_that_no_class_has_are_not_passed_over(files):
    result = invoke(
        "evaluate", files / "images", files / "masks", "--device", "cpu",
        "--checkpoint", files / "net.safetensors",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "9" in result.stderr


def test_evaluating_shows_a_row_a_class(files):
    result = invoke(
        "evaluate", files / "picture.tif", files / "masks" / "0.tif", "--ignore", 9,
        "--checkpoint", files / "net.safetensors", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for word in ("dark", "light", "all", "IoU", "F1", "accuracy"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (None, 0.2),
        ("0", 0.0),
        ("0.5", 0.5),
        ("3", ("3",)),
        ("a,b", ("a", "b")),
        ("1.5", ("1.5",)),
    ],
)
def test_validation_by_share_or_by_name(text, parsed):
    assert parse_validate(text) == parsed


def test_model_arguments_are_json_or_text():
    found = parse_arguments(["window=256", 'options={"a": [1]}', "name=x"], None, "r")
    assert found == {
        "window": 256, "options": {"a": [1]}, "name": "x", "encoder": "r",
    }  # fmt: skip
    with pytest.raises(typer.BadParameter, match="window=256"):
        parse_arguments(["window"], None, None)
