"""The campaign in small: every kind of file opens, and a few cases of each part."""

import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from campaign import cases_maps, cases_models, cases_vectors  # noqa: F401
from campaign.disturbances import Bench, disturb
from campaign.inputs import KINDS
from campaign.pool import open_mutated, worker
from campaign.report import CASES, Outcome
from napari_uhrseg.errors import UhrSegError

REFUSED = {"torch", "geopackage"}  # weights of no network of ours; an optional format


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_sound_file_of_each_kind_opens(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path / "cache"))
    path = KINDS[name].make(tmp_path, 0)
    with suppress(UhrSegError) if name in REFUSED else nullcontext():
        KINDS[name].open(path)


def test_report_repeats_failures_and_groups_equal_ones():
    first = Outcome("inputs", "tiff", 3, "traceback", "File 'a', line 3\nKeyError: 7")
    second = Outcome("inputs", "tiff", 4, "traceback", "File 'b', line 3\nKeyError: 9")
    assert first.failed
    assert first.signature == second.signature
    assert first.command(5) == "make campaign ONLY=inputs KIND=tiff CASE=3 SEED=5"
    assert not Outcome("inputs", "tiff", 5, "refused").failed


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_mutated_files_open_or_are_refused():
    kinds = ("png", "jpeg", "classes")
    found = list(open_mutated(kinds, range(5), 1, time.monotonic() + 60))
    assert len(found) == 15
    assert {o.result for o in found} <= {"opened", "refused"}


@pytest.mark.slow
def test_equal_cases_give_equal_results():
    with worker() as opener:
        results = [opener.open("png", 3, case) for case in (0, 1, 0, 1)]
    assert results[:2] == results[2:]


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes", "finetune"])
def test_killed_operations_leave_whole_files(name, tmp_path):
    """Class edits, labels, strokes and checkpoints are those before the kill."""
    bench = Bench(name, tmp_path)
    found = list(disturb("kills", bench, 0, 1, time.monotonic() + 600))
    assert [o.text for o in found if o.failed] == []


def rows() -> dict[str, list[str]]:
    """Return the cells of each row of the log by the name of its case."""
    text = Path(__file__).with_name("LOG.md").read_text(encoding="utf-8")
    table = [x.strip("|\n").split("|") for x in text.splitlines() if x[:1] == "|"]
    cells = [[cell.strip() for cell in row] for row in table[2:]]
    return {row[1].strip("`"): row for row in cells}


SLOW = {"smp", "napari"}  # they load large packages
HELD = [
    pytest.param(name, marks=[pytest.mark.slow] if row[0] in SLOW else [])
    for name, row in rows().items()
    if row[5] != "failed"
]


def test_log_has_a_row_for_each_case():
    assert [(r[0], r[1], r[2], r[3]) for r in rows().values()] == [
        (c.program, f"`{c.name}`", c.given, c.right) for c in CASES.values()
    ]
    assert {row[5] for row in rows().values()} <= {"right", "fixed", "failed"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other libraries warn about such files
@pytest.mark.parametrize("name", HELD)
def test_case_gives_the_right_result(name, tmp_path):
    CASES[name].check(tmp_path)
