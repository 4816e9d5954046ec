"""The committed tables of measurements are whole, and the documentation has them."""

import csv
import re
from pathlib import Path

import pytest
from measurements import TABLES, find_row, put_rows, read_rows

ROOT = Path(__file__).parents[2]
KEYS = {
    "many_images": ("ground", "method", "seed"),
    "method_scores": ("data", "method", "seed", "steps_factor"),
    "method_class_scores": ("data", "method", "seed", "steps_factor", "class"),
    "method_speed": ("method",),
    "peers": ("network", "pixels", "overlap", "program"),
    "pipeline": ("cores", "device_share"),
    "pipeline_stages": ("stage",),
    "pixel_features": ("ground", "features", "classifier", "dabs", "seed"),
    "quick_classifier": ("ground", "method", "seed", "round"),
    "stroke_tools": ("ground", "tools", "seed"),
    "simulated_user": ("ground", "method", "seed", "round"),
    "simulated_user_classes": ("ground", "method", "seed", "round", "class"),
    "tool_events": ("tool",),
    "two_minutes": ("ground", "code", "cpu_limit", "window", "seed"),
}
RATIOS = {
    "miou",
    "iou",
    "f1",
    "accuracy",
    "held_out_miou_before",
    "held_out_miou_after",
}


def test_every_table_is_known():
    assert {path.stem for path in TABLES.glob("*.csv")} == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_a_table_has_a_header_unique_keys_and_numbers(name):
    path = TABLES / f"{name}.csv"
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", column) for column in header)
    assert all(len(line) == len(header) for line in lines)
    rows = read_rows(path)
    keys = [tuple(row[key] for key in KEYS[name]) for row in rows]
    assert len(set(keys)) == len(keys) > 0
    assert all(all(key) for key in keys)
    for row in rows:
        for column in RATIOS & row.keys():
            assert row[column] == "" or 0 <= float(row[column]) <= 1


@pytest.mark.parametrize("part", ["simulated_user", "method"])
def test_each_measurement_has_its_classes(part):
    whole, classes = (
        ("simulated_user", "simulated_user_classes")
        if part == "simulated_user"
        else ("method_scores", "method_class_scores")
    )
    for row in read_rows(TABLES / f"{whole}.csv"):
        key = {column: row[column] for column in KEYS[whole]}
        assert find_row(read_rows(TABLES / f"{classes}.csv"), key)


def test_rows_are_replaced_by_their_keys(tmp_path):
    path = tmp_path / "table.csv"
    put_rows(path, [{"seed": 0, "miou": 0.5}, {"seed": 1, "miou": 0.25}], ["seed"])
    put_rows(path, [{"seed": 0, "miou": 0.1 + 0.2, "note": "a, b\nc"}], ["seed"])
    assert find_row(read_rows(path), {"seed": 1}) == {
        "seed": "1", "miou": "0.25", "note": ""
    }  # fmt: skip
    replaced = find_row(read_rows(path), {"seed": 0})
    assert replaced is not None
    assert float(str(replaced["miou"])) == 0.1 + 0.2
    assert replaced["note"] == "a, b\nc"
    assert len(read_rows(path)) == 2
    assert find_row(read_rows(path), {"seed": 2}) is None


def test_the_documentation_has_the_table_of_the_methods():
    import methods_table

    assert methods_table.table(TABLES) in methods_table.DOCS.read_text()


def test_the_documentation_has_the_table_of_the_simulated_user():
    import bench_finetune

    text = (ROOT / "docs" / "finetuning.md").read_text()
    for line in bench_finetune.table(TABLES, ["world", "aerial"], 5).splitlines():
        assert line in text


def test_scores_of_a_training_become_rows(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "sample_data"))
    import make_checkpoints

    key = {"data": "glands", "method": "plain", "seed": 0, "steps_factor": 1.0}
    scores = {"miou": 0.5, "f1": 0.6, "accuracy": 0.7}
    scores |= {f"{metric}/gland": 0.25 for metric in ("iou", "f1", "accuracy")}
    make_checkpoints.record(tmp_path, key, scores)
    (row,) = read_rows(tmp_path / make_checkpoints.SCORES)
    assert list(row) == list(read_rows(TABLES / make_checkpoints.SCORES)[0])
    (row,) = read_rows(tmp_path / make_checkpoints.CLASS_SCORES)
    assert list(row) == list(read_rows(TABLES / make_checkpoints.CLASS_SCORES)[0])


@pytest.mark.slow
def test_speed_becomes_a_row(tmp_path):
    import methods_table
    from common import sample, tiled

    scene = tiled(tmp_path / "scene.tif", 512, None)
    found = methods_table.measure(sample("plain.safetensors"), scene)
    header = [*read_rows(TABLES / methods_table.SPEED)[0]]
    assert ["method", *found] == header
    assert all(value > 0 for name, value in found.items() if name != "peak_memory_mib")
    assert "-" not in methods_table.speed_cells(found)
