"""Area-weighted accuracy against the worked example of Olofsson et al. (2014)."""

import csv

import numpy as np
import pytest
from PIL import Image

from napari_uhrseg.engine.evaluation.area_weighted import area_weighted_accuracy
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix, Scores
from napari_uhrseg.engine.evaluation.report import write_report
from napari_uhrseg.errors import ExportError

NAMES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
# Table 8 of the paper: sample counts, map classes in rows
COUNTS = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
MAPPED = [200_000, 150_000, 3_200_000, 6_450_000]  # pixels of 30 m
HECTARES = 0.09 * sum(MAPPED)


@pytest.fixture
def example():
    return area_weighted_accuracy(COUNTS, MAPPED, NAMES)


def test_accuracies_are_those_of_the_paper(example):
    assert round(float(example.overall.value), 2) == 0.95
    assert round(float(example.overall.margin), 2) == 0.02
    users, producers = example.users, example.producers
    assert np.round(users.value, 2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert np.round(users.margin, 2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert np.round(producers.value, 2).tolist() == [0.75, 0.85, 0.93, 0.96]


def test_margins_of_producers_accuracies_follow_equation_7(example):
    """The equation as it is printed, with areas N and one sum at a time."""
    rows = [sum(row) for row in COUNTS]
    for j in range(4):
        areas = [MAPPED[i] * COUNTS[i][j] / rows[i] for i in range(4)]
        user, producer = COUNTS[j][j] / rows[j], areas[j] / sum(areas)
        first = MAPPED[j] ** 2 * (1 - producer) ** 2 * user * (1 - user) / (rows[j] - 1)
        second = sum(
            MAPPED[i] ** 2 * COUNTS[i][j] / rows[i] * (1 - COUNTS[i][j] / rows[i])
            / (rows[i] - 1)
            for i in range(4) if i != j
        )  # fmt: skip
        variance = (first + producer**2 * second) / sum(areas) ** 2
        assert example.producers.margin[j] == pytest.approx(1.96 * variance**0.5)


def test_areas_are_those_of_the_paper(example):
    hectares = HECTARES * example.area.value
    assert hectares == pytest.approx([21_158, 11_686, 285_770, 581_386], abs=1)
    margins = HECTARES * example.area.margin
    assert margins == pytest.approx([6_158, 3_756, 15_510, 16_282], abs=1)


def test_a_census_has_the_plain_accuracies():
    counts = np.array([[50, 10], [5, 35]])
    found = area_weighted_accuracy(counts, counts.sum(1), "ab")
    assert found.overall.value == pytest.approx(0.85)
    assert found.users.value == pytest.approx([50 / 60, 35 / 40])
    assert found.producers.value == pytest.approx([50 / 55, 35 / 45])
    assert found.area.value == pytest.approx([0.55, 0.45])


def test_classes_without_samples_are_left_out():
    found = area_weighted_accuracy([[8, 2, 0], [0, 10, 0], [0, 0, 0]], [5, 5, 9], "abc")
    assert found.left_out == ("c",)
    assert found.overall.value == pytest.approx(0.9)
    assert np.isnan(found.users.value[2])
    none = area_weighted_accuracy(np.zeros((2, 2)), [1, 1], "ab")
    assert np.isnan(none.overall.value)


def test_mapped_pixels_are_those_of_the_whole_image():
    counter = ConfusionMatrix(["a", "b"])
    labels = np.array([[0, 0, 1, 1], [0, 0, 0, 1]], np.uint8)
    truth = np.array([[0, 1, 1, 255], [255, 255, 255, 255]], np.uint8)
    counter.add(labels, truth)
    scores = counter.scores()
    assert scores.mapped.tolist() == [5, 3]
    assert (scores + scores).mapped.tolist() == [10, 6]


def test_reports_contain_matrix_and_accuracies(tmp_path):
    scores = Scores(NAMES, np.array(COUNTS).T, np.array(MAPPED))
    for suffix in ("csv", "txt", "png"):
        write_report(scores, tmp_path / f"report.{suffix}")
    rows = list(csv.DictReader((tmp_path / "report.csv").open(encoding="utf-8")))
    assert [row["mapped_as"] for row in rows] == [*NAMES, "overall accuracy"]
    matrix = [[int(row[f"reference_{name}"]) for name in NAMES] for row in rows[:4]]
    assert matrix == COUNTS
    assert float(rows[0]["mapped_share"]) == 0.02
    assert float(rows[0]["users_accuracy"]) == 0.88
    assert float(rows[0]["area_share"]) * HECTARES == pytest.approx(21_158, abs=1)
    assert float(rows[-1]["users_accuracy"]) == pytest.approx(0.9465, abs=1e-4)
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert "Area-weighted overall accuracy: 94.7% ± 1.8%" in text
    assert "too narrow" in text
    with Image.open(tmp_path / "report.png") as picture:
        assert min(picture.size) > 4 * 72
        assert len(picture.convert("RGB").getcolors(1 << 16)) > 16
    with pytest.raises(ExportError, match="exists already"):
        write_report(scores, tmp_path / "report.csv")
    with pytest.raises(ExportError, match="does not end in"):
        write_report(scores, tmp_path / "report.pdf")
    assert len(list(tmp_path.iterdir())) == 3
