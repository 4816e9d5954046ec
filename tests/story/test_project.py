"""A project on the command line: six scenes, three corrected, one model for all."""

import csv
import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.project_file import ProjectFile

pytestmark = pytest.mark.slow

SHAPE = 96, 128
CPU = ("--device", "cpu")


def run(*arguments: object) -> list[dict]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a truth of two classes, dark above light, and a noisy picture of it."""
    rng = np.random.default_rng(seed)
    truth = np.ones(SHAPE, np.uint8)
    truth[rng.integers(30, 60) :] = 2
    grey = truth * 90 + rng.integers(-40, 40, SHAPE)
    return truth, np.stack([grey] * 3, -1).clip(0, 255).astype(np.uint8)


def test_six_scenes_are_corrected_trained_and_evaluated(tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("1 dark #101010\n2 light #f0f0f0\n")
    truths = []
    for n in range(6):
        truth, picture = scene(n)
        truths.append(truth)
        tifffile.imwrite(tmp_path / f"{n}.tif", picture, photometric="rgb")
        tifffile.imwrite(tmp_path / f"{n}_truth.tif", truth)
    file = ProjectFile(tmp_path / "six.uhrproject.json")
    run("project", "new", file.path, "--classes", classes)
    run("project", "add", file.path, tmp_path / "[0-9].tif")
    legend = file.read().legend
    for image in file.read().images:  # empty labels, as New labels makes in the window
        opened = open_image(tmp_path / image.path)
        LabelStore.create(tmp_path / image.labels, opened, legend).close()

    def correct(n: int, rows: slice) -> None:
        mask = np.zeros(SHAPE, np.uint8)
        mask[rows, 40:90] = truths[n][rows, 40:90]
        path = tmp_path / f"{n}_mask.tif"
        tifffile.imwrite(path, mask)
        store = tmp_path / file.read().images[n].labels
        run("correct", store, path, "--values", "ids")

    for n in range(3):
        correct(n, slice(None, None, 8))
    model = tmp_path / "one.safetensors"
    events = run("project", "finetune", file.path, "--model", "pixel_classifier",
                 "--output", model, *CPU)  # fmt: skip
    assert events[0]["summary"]["regions"] >= 3
    assert file.read().checkpoints == ("one.safetensors",)

    for n in range(3, 6):
        correct(n, slice(None))
    others = ("--image", "3.tif", "--image", "4.tif", "--image", "5.tif")
    *each, total = run("project", "evaluate", file.path, "--checkpoint", model,
                       *others, *CPU)  # fmt: skip
    assert [e["name"] for e in each] == ["3.tif", "4.tif", "5.tif"]
    assert {"miou", "iou/dark", "iou/light"} <= total["metrics"].keys()

    done = run("project", "segment", file.path, "--checkpoint", model, *CPU)[-1]
    assert len(done["done"]) == 6
    again = run("project", "segment", file.path, "--checkpoint", model, *CPU)[-1]
    assert len(again["skipped"]) == 6
    run("project", "mark", file.path, "--image", "0.tif", "--as", "reviewed")
    run("project", "report", file.path, "--output", tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open(newline="")))
    assert [r["state"] for r in rows] == ["reviewed"] + 5 * ["corrected"]
    assert all(float(r["dark"]) + float(r["light"]) == pytest.approx(1) for r in rows)
    out = tmp_path / "out"
    run("project", "export", file.path, "--output", out, "--format", "cog")
    names = [f"{n}.tif{more}" for n in range(6) for more in ("", ".aux.xml")]
    assert sorted(f.name for f in out.iterdir()) == names
