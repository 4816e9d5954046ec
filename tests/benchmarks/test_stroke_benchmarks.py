"""Benchmarks of trainings from a few strokes run on tiny input, as the others do."""

import ast

import numpy as np
import pytest
from measurements import read_rows
from PIL import Image

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.slow,
]


@pytest.fixture
def write_ground(tmp_path):
    """Return a function that writes an image of two classes, and its mask."""

    def write(ground, name, suffix, side):
        mask = np.zeros((side, side), np.uint8)
        mask[:, side // 2 :] = 1
        noise = np.random.default_rng(0).integers(0, 60, (side, side, 3))
        pixels = (mask[..., None] * 120 + noise).astype(np.uint8)
        for part, data, end in (("images", pixels, suffix), ("masks", mask, "png")):
            folder = tmp_path / ground / part
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data).save(folder / f"{name}.{end}")
        return tmp_path

    return write


def scores(rows):
    return [float(row["miou"]) for row in rows]


def test_pixel_classifier_is_compared_with_a_forest(write_ground, capsys):
    pytest.importorskip("sklearn", reason="the random forest needs scikit-learn")
    import bench_quick_classifier

    folder = write_ground("vessels", "01_dr", "jpg", 256)
    bench_quick_classifier.main(
        [str(folder), "--grounds", "vessels", "--seeds", "0", "--tuning"]
    )
    lines = capsys.readouterr().out.splitlines()
    rows = [ast.literal_eval(line) for line in lines if line.startswith("{")]
    assert [(row["method"], row["round"]) for row in rows] == [
        (method, number)
        for number in (1, 2, 3)
        for method in ("forest", "pixel classifier")
    ]
    assert all(0 <= score <= 1 for score in scores(rows))
    assert "| mean | pixel classifier |" in lines[-1]


def test_features_and_classifiers_are_compared(write_ground, tmp_path):
    pytest.importorskip("sklearn", reason="the random forest needs scikit-learn")
    import bench_pixel_features

    folder = write_ground("glands", "train_1", "png", 64)
    bench_pixel_features.main(
        [str(folder), "--grounds", "glands", "--tables", str(tmp_path)]
    )
    rows = read_rows(tmp_path / "pixel_features.csv")
    assert len({(row["features"], row["classifier"]) for row in rows}) == len(rows) == 9
    assert all(0 <= score <= 1 for score in scores(rows))


def test_live_preview_is_timed_from_stroke_to_labels(write_ground, capsys):
    import bench_live_preview

    folder = write_ground("glands", "train_1", "png", 96)
    image = folder / "glands" / "images" / "train_1.png"
    bench_live_preview.main([str(image), "--view", "96", "96"])
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.startswith("96 x 96: ")
        first, _, last, _ = map(float, line.split(", ")[-4:])
        assert 0 <= first <= last


def test_first_minutes_of_a_training_are_measured(write_ground, tmp_path, capsys):
    import bench_two_minutes

    folder = write_ground("glands", "train_1", "png", 96)
    small = ["--window", "64", "--batch-size", "2", "--steps", "2"]
    arguments = [str(folder), "--grounds", "glands", *small, "--tables", str(tmp_path)]
    bench_two_minutes.main(arguments)
    (row,) = read_rows(tmp_path / "two_minutes.csv")
    assert row["steps"] == "2"
    assert 0 <= float(row["miou"]) <= 1
    bench_two_minutes.main([*arguments, "--plan"])
    assert "'expected_s': " in capsys.readouterr().out


def test_one_model_is_compared_with_three(write_ground, tmp_path, capsys):
    import bench_many_images

    for number in (1, 2, 3, 69):
        folder = write_ground("glands", f"train_{number}", "png", 96)
    few = ["--grounds", "glands", "--methods", "pixel_classifier", "--seeds", "0"]
    bench_many_images.main([str(folder), *few, "--tables", str(tmp_path)])
    (row,) = read_rows(tmp_path / "many_images.csv")
    figures = [float(row[key]) for key in ("together", "alone", "best_alone")]
    assert all(0 <= figure <= 1 for figure in figures)
    assert figures[1] <= figures[2]
    assert "| glands | pixel_classifier | 1 |" in capsys.readouterr().out


def test_strokes_of_tools_are_compared(write_ground, capsys):
    pytest.importorskip("sklearn", reason="the views are those of the random forest")
    import bench_stroke_tools

    folder = write_ground("vessels", "01_dr", "jpg", 256)
    bench_stroke_tools.main(
        [str(folder), "--grounds", "vessels", "--seeds", "0", "--tuning"]
    )
    lines = capsys.readouterr().out.splitlines()
    rows = [ast.literal_eval(line) for line in lines if line.startswith("{")]
    assert [row["tools"] for row in rows] == [*bench_stroke_tools.SETS]
    strokes = {row["tools"]: row["strokes"] for row in rows}
    assert all(row["reached"] for row in rows)
    assert strokes["wand"] < strokes["brush"]
    assert strokes["all"] <= min(strokes.values())
    assert "| vessels | brush and wand |" in lines[-3]
