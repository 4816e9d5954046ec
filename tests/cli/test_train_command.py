"""Test ``napari-uhrseg train`` and ``evaluate`` through the command line."""

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
    """Train a small network for some steps on the three images."""

    def run(*options: object):
        return invoke(
            "train", "--images", files / "images", "--masks", files / "masks",
            "--model", "plain", "--output", tmp_path / "net.safetensors",
            "--architecture", "Unet", "--encoder", "tu-mobilenetv4_conv_small_050",
            "--argument", "window=64", "--device", "cpu", "--ignore", 9,
            "--batch-size", 4, "--validate", "2", *options,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_train_checkpoint_evaluates_well_on_training_images(train, files, tmp_path):
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


@pytest.mark.slow
def test_train_writes_card_options_to_card(train, tmp_path):
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


@pytest.mark.slow
def test_train_json_prints_events(train):
    result = train("--steps", 2, "--json")
    assert result.exit_code == 0, result.output
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert set(events) == {
        "memory_planned", "progress", "step_logged", "validated", "saved",
    }  # fmt: skip


@pytest.mark.slow
def test_train_existing_checkpoint_needs_overwrite(train):
    assert train("--steps", 1).exit_code == 0
    result = train("--steps", 1)
    assert result.exit_code == 1
    assert "exists" in result.stderr
    assert train("--steps", 1, "--overwrite").exit_code == 0


def test_train_invalid_input_prints_message(files, tmp_path):
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


def test_evaluate_refuses_unknown_mask_values(files):
    result = invoke(
        "evaluate", files / "images", files / "masks", "--device", "cpu",
        "--checkpoint", files / "net.safetensors",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "9" in result.stderr


@pytest.mark.slow
def test_evaluate_prints_row_for_each_class(files):
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
def test_validate_option_is_fraction_or_names(text, parsed):
    assert parse_validate(text) == parsed


def test_argument_option_is_json_or_text():
    found = parse_arguments(["window=256", 'options={"a": [1]}', "name=x"], None, "r")
    assert found == {
        "window": 256, "options": {"a": [1]}, "name": "x", "encoder": "r",
    }  # fmt: skip
    with pytest.raises(typer.BadParameter, match="window=256"):
        parse_arguments(["window"], None, None)
