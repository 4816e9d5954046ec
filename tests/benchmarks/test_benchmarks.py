"""Every benchmark runs once on the smallest input and gives a well-formed table.

The figures mean nothing here; the tests keep the benchmarks working.
"""

import contextlib
import importlib
import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import run as benchmarks
from rich.console import Group
from rich.table import Table

from helpers import cluster_networks, corrections
from helpers.forked import forked_workers
from napari_uhrseg.samples.world import CLASSES

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.skipif(
        sys.platform != "linux", reason="the benchmarks measure memory in Linux's /proc"
    ),
    # a viewer that a benchmark opens has napari's commands to itself
    pytest.mark.usefixtures("mock_app_model"),
]

WINDOWS = (
    "panel",
    "window",
    "painting",
    "opening",
    "project",
    "tool_events",
)  # these open a napari window
QUICK = ("frame", "learnmemory")
ONE_PROCESS = "growth"  # the others that start processes print the same without


def cases():
    for name in benchmarks.ALL:
        marks = [pytest.mark.gui] if name in WINDOWS else []
        marks += [] if name in QUICK else [pytest.mark.slow]
        yield pytest.param(name, marks=marks)


def rows(table):
    """Return the rows of a table as texts, without its header."""
    return list(zip(*(list(column.cells) for column in table.columns), strict=True))


def called(file, *arguments):
    """Call the main function of a benchmark's process here; return what it prints."""
    module = importlib.import_module(Path(file).stem)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        module.main(*arguments)
    return json.loads(printed.getvalue().splitlines()[-1])


def small_network(name, folder):
    """Return a checkpoint that is quicker than the samples, or None for these."""
    if name == "seams":
        path = folder / "frames.safetensors"
        return cluster_networks.save(path, "frames", frame=1152).path
    if name in ("learning", "precision"):
        return corrections.checkpoint(folder, legend=CLASSES).path
    return None


def measured(name, monkeypatch, folder):
    """Run a benchmark; return its tables."""
    benchmark = importlib.import_module(f"bench_{name}")
    if hasattr(benchmark, "child") and name != ONE_PROCESS:
        monkeypatch.setattr(benchmark, "child", called)
    workers = forked_workers() if name == "cluster" else contextlib.nullcontext()
    with cluster_networks.installed(), workers:
        found = benchmark.run(None, small_network(name, folder), benchmark.TINY)
    return found.renderables if isinstance(found, Group) else [found]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*cases()])
def test_a_benchmark_prints_tables(name, monkeypatch, tmp_path):
    for table in measured(name, monkeypatch, tmp_path):
        assert isinstance(table, Table)
        assert table.title
        assert all(column.header or name == "monai" for column in table.columns)
        lines = rows(table)
        assert lines
        assert all(str(cell).strip() for line in lines for cell in line)
        assert any(character.isdigit() for cell in lines[0][1:] for character in cell)
        assert not any("nan" in str(cell).split() for line in lines for cell in line)
        if name == "monai":
            check_monai(table)


def check_monai(table):
    """Assert that a benchmark without MONAI says so and measures the rest."""
    names = [line[3] for line in rows(table)]
    if find_spec("monai"):
        assert names == ["MONAI", "segment"]
    else:
        assert names == ["segment"]
        assert "pip install monai" in str(table.title)


def test_the_command_line_refuses_an_unknown_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "nothing"])
    with pytest.raises(SystemExit):
        benchmarks.main()
    assert "nothing is none of panel, window" in capsys.readouterr().err


@pytest.mark.slow
def test_finetune_measures_rounds_and_repeats_none(tmp_path, capsys):
    import bench_finetune
    from measurements import read_rows

    command = [
        "--work", str(tmp_path), "--methods", "plain", "--seeds", "0", "--rounds", "1",
        "--strokes", "4", "--radius", "8", "--side", "512", "--cell", "128",
        "--set", "steps=2",
    ]  # fmt: skip
    bench_finetune.main(command)
    first = capsys.readouterr().out
    table = read_rows(tmp_path / bench_finetune.TABLE)
    assert [row["round"] for row in table] == ["0", "1"]
    assert all(0 < float(row["miou"]) <= 1 for row in table)
    assert int(table[1]["painted_pixels"]) > 0
    assert table[1]["kept"] in ("True", "False")
    assert table[1]["comparison"]
    assert table[1]["training_data"]
    classes = read_rows(tmp_path / bench_finetune.CLASS_TABLE)
    assert {row["round"] for row in classes} == {"0", "1"}
    assert all(0 <= float(row["iou"]) <= 1 for row in classes)

    bench_finetune.main(command)
    assert capsys.readouterr().out.split("mIoU") != []
    assert read_rows(tmp_path / bench_finetune.TABLE) == table
    assert first.count("world-plain-0") == 2

    document = tmp_path / "document.md"
    document.write_text(f"before\n{bench_finetune.START}\nold\n<!-- end -->\nafter\n")
    bench_finetune.main([*command, "--table", str(document)])
    text = document.read_text()
    assert "| world | plain | 1 |" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


@pytest.mark.slow
def test_forgetting_prints_each_class(capsys):
    import bench_forgetting

    bench_forgetting.main(
        ["--strokes", "2", "--radius", "8", "--steps", "2", "--side", "448",
         "--class", "forest"]
    )  # fmt: skip
    painted, _, *classes = capsys.readouterr().out.splitlines()
    assert painted.split()[1:3] == ["pixels", "painted,"]
    assert int(painted.split()[0]) > 0
    assert classes[-1].startswith("mean")
    assert all("->" in line for line in classes)


@pytest.mark.slow
def test_scratch_prints_the_forest_and_the_network(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="the random forest needs scikit-learn")
    import bench_scratch

    small = {"window": 64, "options": {"decoder_channels": 16}}
    bench_scratch.main(
        ["--side", "192", "--steps", "2", "--encoder", "tu-test_efficientnet",
         "--arguments", json.dumps(small), "--work", str(tmp_path)]
    )  # fmt: skip
    forest, network = capsys.readouterr().out.splitlines()
    assert forest.startswith("slide, strokes 0 (")
    assert ": forest 0." in forest
    assert network.strip().startswith("network 0.")
