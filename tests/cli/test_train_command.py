"""Test ``napari-uhrseg train`` and ``evaluate`` through the command line."""

import json
import shutil

import pytest
import tifffile
import torch
import typer
from typer.testing import CliRunner

from helpers.corrections import LEGEND, correct
from napari_uhrseg.cli import app
from napari_uhrseg.cli.shared_options import parse_arguments
from napari_uhrseg.cli.training_data import parse_validate
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.encoder_weights import WEIGHTS
from napari_uhrseg.types import Roi

UNET = json.dumps({"encoder_depth": 3, "decoder_channels": [16, 8, 8]})


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def train(files, tmp_path):
    """Train a small network for some steps on the three images."""

    def run(*options: object):
        return invoke(
            "train", "--images", files / "images", "--masks", files / "masks",
            "--model", "plain", "--output", tmp_path / "net.safetensors",
            "--architecture", "Unet", "--encoder", "tu-test_efficientnet",
            "--argument", "window=64", "--argument", f"options={UNET}",
            "--device", "cpu", "--ignore", 9,
            "--batch-size", 4, "--validate", "2", "--no-pretrained", *options,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_train_writes_the_checkpoint_of_the_best_validation(train, tmp_path):
    result = train("--steps", 2, "--value-range", "per-band")
    assert result.exit_code == 0, result.output
    assert "mIoU" in result.stdout
    card = read_card(tmp_path / "net.safetensors")
    assert card.spec.value_range == "per-band"
    assert card.trained_on == "images: 0, 1"
    assert [c.source_value for c in card.legend] == [0, 1]
    assert 0 <= card.metrics["miou"] <= 1
    assert not list(tmp_path.glob("*.state"))
    for line in ("Training scenes: 2. Validation scenes: 2.", "2 steps on cpu"):
        assert line in result.stdout


@pytest.fixture
def light(files, tmp_path):
    """Return a checkpoint that says light everywhere."""
    found = load_checkpoint(files / "net.safetensors")
    with torch.no_grad():
        head = found.model.net.segmentation_head[0]
        head.weight.zero_()
        head.bias.copy_(torch.tensor([-1.0, 1.0]))
    return save_checkpoint(tmp_path / "light.safetensors", found.model, found.card)


@pytest.mark.slow
def test_evaluate_compares_labels_with_masks(files, light, tmp_path):
    result = invoke(
        "evaluate", files / "images", files / "masks", "--ignore", 9, "--json",
        "--checkpoint", light, "--device", "cpu", "--report", tmp_path / "a.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    matrix = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert matrix[0].startswith("mapped_as,reference_dark,reference_light,")
    *each, total = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["name"] for one in each] == ["0", "1", "2"]
    masks = [tifffile.imread(files / f"masks/{name}.tif") for name in range(3)]
    counts = [sum(int((m == v).sum()) for m in masks) for v in (0, 1)]
    share = counts[1] / sum(counts)
    metrics = total["metrics"]
    assert metrics["miou"] == pytest.approx(share / 2)
    assert metrics["iou/dark"] == 0
    assert metrics["iou/light"] == pytest.approx(share)
    assert metrics["accuracy"] == pytest.approx(share)
    assert "f1/light" in metrics
    weighted = total["area_weighted"]["accuracy"]  # dark is not mapped
    assert weighted == pytest.approx(share)


@pytest.mark.slow
def test_train_dry_run_prints_the_plan_and_writes_nothing(train, tmp_path):
    result = train("--steps", 5, "--dry-run")
    assert result.exit_code == 0, result.output
    for text in (
        "Training scenes: 2. Validation scenes: 2.", "Classes: class 0, class 1.",
        "5 steps on cpu", "Memory: 4 samples a step", "for 5 steps",
        "Nothing was written",
    ):  # fmt: skip
        assert text in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_train_starts_from_the_shipped_encoder(files, tmp_path):
    output = tmp_path / "net.safetensors"
    result = invoke(
        "train", "--images", files / "images", "--masks", files / "masks", "--model",
        "plain", "--output", output, "--architecture", "Unet", "--argument",
        "window=64", "--ignore", 9, "--device", "cpu", "--batch-size", 2, "--steps", 1,
        "--validate", "0", "--weight-decay", 0.1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = "ImageNet weights of tf_efficientnet_lite0"
    assert f"Encoder: starts from {text}" in result.stdout
    card = read_card(output)
    assert card.encoder_weights.startswith(text)
    assert card.arguments["encoder"] == "tu-tf_efficientnet_lite0"
    assert text in invoke("info", output).stdout


@pytest.mark.slow
def test_train_refuses_encoder_weights_of_another_network(train):
    options = ("--encoder", "tu-test_efficientnet", "--steps", 1)
    result = train(*options, "--encoder-weights", WEIGHTS)  # of EfficientNet-Lite0
    assert result.exit_code == 1
    assert "fits no encoder" in result.stderr


@pytest.mark.slow
def test_train_prints_warnings_about_the_masks(files, tmp_path):
    (tmp_path / "classes.txt").write_text("0 dark\n1 light\n2 ice\n")
    result = invoke(
        "train", "--images", files / "images", "--masks", files / "masks", "--model",
        "plain", "--output", tmp_path / "net.safetensors", "--encoder",
        "tu-test_efficientnet", "--architecture", "Unet", "--argument", "window=64",
        "--classes", tmp_path / "classes.txt", "--ignore", 9, "--device", "cpu",
        "--batch-size", 2, "--steps", 1, "--dry-run", "--no-pretrained",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "The class 'ice' occurs in no mask and cannot be learned." in result.stderr


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


@pytest.mark.slow
def test_train_json_prints_events(train):
    result = train("--steps", 2, "--json")
    assert result.exit_code == 0, result.output
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert set(events) == {
        "training_planned", "memory_planned", "progress", "step_logged", "validated",
        "saved",
    }  # fmt: skip


@pytest.mark.slow
def test_train_existing_checkpoint_needs_overwrite(train, files, tmp_path):
    path = shutil.copy(files / "net.safetensors", tmp_path)
    result = train("--steps", 1)
    assert result.exit_code == 1
    assert "exists" in result.stderr
    assert read_card(path).name == "small net"
    assert train("--steps", 1, "--overwrite").exit_code == 0
    assert read_card(path).name == "net"  # without --name, that of the file


def test_train_invalid_input_prints_message(files, tmp_path):
    common = ("--output", tmp_path / "n.safetensors", "--device", "cpu")
    folders = ("--images", files / "images", "--masks", files / "masks")
    for options, said, code in (
        (("--model", "magic", *folders), "magic", 2),
        (("--model", "plain", *folders, "--validate", "no"), "no scene named 'no'", 1),
        (("--model", "plain", *folders[:2], "--masks", tmp_path / "no"), "no", 1),
    ):
        result = invoke("train", *options, *common)
        assert result.exit_code == code, result.output
        assert said in result.stderr
        assert "Traceback" not in result.output


def test_evaluate_refuses_unknown_mask_values(files):
    result = invoke(
        "evaluate", files / "images", files / "masks", "--device", "cpu",
        "--checkpoint", files / "net.safetensors",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "9" in result.stderr


def test_evaluate_refuses_other_files_of_a_report(files, tmp_path):
    arguments = (
        "evaluate", files / "images", files / "masks", "--checkpoint",
        files / "net.safetensors", "--report",
    )  # fmt: skip
    result = invoke(*arguments, tmp_path / "a.pdf")
    assert result.exit_code == 2
    assert "does not end in" in " ".join(result.stderr.split())
    (tmp_path / "a.png").write_bytes(b"mine")
    result = invoke(*arguments, tmp_path / "a.png")
    assert result.exit_code == 1
    assert "exists already" in result.stderr


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


@pytest.fixture
def stores(files, tmp_path):
    """Return label stores of the three images, with corrections in strips."""
    made = []
    for name in range(3):
        image = open_image(files / f"images/{name}.tif")
        path = tmp_path / f"{name}.zarr"
        truth = tifffile.imread(files / f"masks/{name}.tif") + 1
        with LabelStore.create(path, image, LEGEND) as store:
            for y in (20, 150):
                roi = Roi(y, 0, 60, image.shape[1])
                correct(store, roi, truth[roi.slices])
        made.append(path)
    return made


@pytest.mark.slow
def test_train_takes_the_corrections_of_several_label_stores(stores, tmp_path):
    result = invoke(
        "train", *stores, "--model", "plain", "--output", tmp_path / "net.safetensors",
        "--architecture", "Unet", "--encoder", "tu-test_efficientnet", "--argument",
        "window=64", "--argument", f"options={UNET}", "--device", "cpu", "--steps", 2,
        "--batch-size", 2, "--validate", "2.tif", "--no-pretrained",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Training scenes: 2. Validation scenes: 2.tif." in result.stdout
    card = read_card(tmp_path / "net.safetensors")
    assert card.trained_on == "corrections: 0.tif, 1.tif"
    assert [c.name for c in card.legend] == ["dark", "light"]
    assert 0 <= card.metrics["miou"] <= 1


def test_train_needs_either_label_stores_or_masks(files, stores, tmp_path):
    model = ("--model", "plain", "--output", tmp_path / "net.safetensors")
    for given in ((), [*stores, "--images", files / "images"], ["--images", files]):
        result = invoke("train", *given, *model)
        assert result.exit_code == 2
        assert "label stores" in result.output


@pytest.mark.slow
def test_train_takes_images_and_masks_of_several_folders(files, tmp_path):
    second = tmp_path / "more"
    second.mkdir()
    shutil.copy(files / "images/0.tif", second / "other.tif")
    mask = tmp_path / "other.tif"
    shutil.copy(files / "masks/0.tif", mask)
    result = invoke(
        "train", "--images", files / "images", "--images", second, "--masks",
        files / "masks", "--masks", mask, "--model", "plain", "--output",
        tmp_path / "net.safetensors", "--architecture", "Unet", "--encoder",
        "tu-test_efficientnet", "--argument", "window=64", "--argument",
        f"options={UNET}", "--device", "cpu", "--ignore", 9, "--steps", 1,
        "--validate", "other", "--no-pretrained", "--dry-run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Training scenes: 3. Validation scenes: other." in result.stdout
