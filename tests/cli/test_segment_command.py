"""Test ``napari-uhrseg segment`` through its command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from helpers.dask_client import connect_quickly
from helpers.fake_gpu import fake_gpu
from helpers.forked import forked_workers
from helpers.processes import GATED, child_environment
from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.types import LabelClass, Legend

COMMON = ("--device", "cpu", "--precision", "fp32")
BLOCKS = ("--memory-budget", "400MB")  # blocks have at most 2048 pixels per side


@pytest.fixture
def segment(files, tmp_path):
    def run(*options: str, image: str = "picture.tif", output: str = "labels.zarr"):
        command = ["segment", str(files / image)]
        command += ["--checkpoint", str(files / "net.safetensors")]
        command += ["--output", str(tmp_path / output), *COMMON, *options]
        return CliRunner().invoke(app, command)

    return run


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_segment_labels_image_and_prints_shares(segment, tmp_path):
    result = segment()
    assert result.exit_code == 0, result.output
    assert "windows" in result.stdout
    assert "dark" in result.stdout
    assert "labels.zarr" in result.stdout
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        labels = store.prediction[0][:]
    assert labels.shape == (300, 420)
    assert set(np.unique(labels)) <= {1, 2}


@pytest.mark.slow
def test_segment_json_prints_only_json(segment):
    events = lines(segment("--json"))
    names = [event["event"] for event in events]
    assert names[0] == "planned"
    assert names[-1] == "finished"
    assert "block_done" in names
    assert events[0]["estimate"]["device_bytes"] > 0
    assert events[-1]["failed"] == 0


@pytest.mark.slow
def test_segment_finished_run_computes_nothing(segment):
    segment()
    names = [event["event"] for event in lines(segment("--json"))]
    assert names == ["planned", "finished"]


def test_segment_dry_run_writes_nothing(segment, tmp_path):
    result = segment("--dry-run", "--memory-budget", "2GB", "--overlap", "16")
    assert result.exit_code == 0, result.output
    assert "windows" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_segment_plan_states_bands_and_value_range(segment):
    options = ("--bands", "2,1,0", "--value-range", "10,200", "--dry-run")
    assert "(bands 2, 1, 0), values 10 to 200" in segment(*options).stdout
    (event,) = lines(segment(*options, "--json"))
    assert event["run"]["value_range"] == [10, 200]
    assert event["input"].endswith("values 10 to 200")


@pytest.mark.parametrize("text", ["1", "5,5", "a,b", "0,inf", "1,2,3"])
def test_segment_invalid_value_range_is_usage_error(segment, text):
    result = segment("--value-range", text, "--dry-run")
    assert result.exit_code == 2
    assert f"'{text}' is not a range" in result.stderr


@pytest.mark.slow
def test_segment_roi_labels_only_rectangle(segment, tmp_path):
    assert segment("--roi", "100,200,50,60").exit_code == 0
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        labels = store.prediction[0][:]
    assert labels[100:150, 200:260].all()
    labels[100:150, 200:260] = 0
    assert not labels.any()


@pytest.mark.parametrize("roi", ["1,2,3", "a,b,c,d", "0,0,0,5"])
def test_segment_invalid_roi_is_usage_error(segment, roi):
    result = segment("--roi", roi)
    assert result.exit_code == 2
    assert "Y,X,HEIGHT,WIDTH" in result.stderr


def test_segment_refuses_amount_that_is_none(segment, tmp_path):
    result = segment("--memory-budget", "5 apples")
    assert result.exit_code == 2
    assert "'5 apples' is not an amount" in result.stderr
    assert not (tmp_path / "labels.zarr").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--overlap", "64"), "overlap"),
        (("--roi", "5000,5000,9,9"), "outside"),
        (("--device", "cuda:9"), "no device"),
        (("--bands", "0,7,1"), "Bands"),
    ],
)
def test_segment_invalid_settings_print_message(segment, options, said, tmp_path):
    result = segment(*options)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_segment_refused_run_leaves_store_unchanged(
    segment, segment_all, files, tmp_path
):
    segment()
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        before = store.legend
    other = load_checkpoint(files / "net.safetensors")
    strange = Legend(
        (LabelClass(1, "snow", "#ffffff"), LabelClass(2, "ice", "#00ffff"))
    )
    path = tmp_path / "strange.safetensors"
    save_checkpoint(path, other.model, replace(other.card, legend=strange))
    result = segment("--checkpoint", str(path))
    assert result.exit_code == 1
    assert "lack: 'snow', 'ice'" in result.stderr
    assert "--map-class snow=NAME" in result.stderr
    result = segment("--checkpoint", str(path), "--add-classes")
    assert result.exit_code == 1
    assert "small net" in result.stderr
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        assert store.legend == before
    assert segment_all(
        files / "images" / "*.tif", options=("--bands", "0,7,1")
    ).exit_code
    assert not list((tmp_path / "all").iterdir())


@pytest.mark.slow
def test_segment_refuses_store_of_another_image(segment, files, tmp_path):
    segment()
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((90, 80, 3), np.uint8))
    result = segment(image=str(tmp_path / "other.tif"))
    assert result.exit_code == 1
    assert "80 x 90" in result.stderr


@pytest.mark.slow
def test_segment_other_settings_need_replace(segment):
    segment()
    result = segment("--overlap", "32")
    assert result.exit_code == 1
    assert "small net" in result.stderr
    assert segment("--overlap", "32", "--replace").exit_code == 0


@pytest.fixture
def large(tmp_path) -> Path:
    """An image of four blocks of the largest size that `BLOCKS` allows."""
    noise = np.random.default_rng(0).integers(0, 255, (4 * 2048, 64, 3), np.uint8)
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, noise, photometric="rgb", tile=(256, 256))
    return path


def interrupted(*command: object) -> tuple[int, str]:
    """Run `segment`, interrupt it after the first block; return its status and stderr.

    The process group gets the signal, as from a terminal, so that workers get it too.
    """
    run = subprocess.Popen(
        [sys.executable, "-c", GATED, "block_done", "segment", *map(str, command),
         "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
        start_new_session=True,
    )  # fmt: skip
    for line in run.stdout:
        if '"block_done"' in line:
            break
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate("\n", timeout=600)
    return run.returncode, said


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_segment_interrupted_run_is_resumed_by_one_process(
    segment, files, large, tmp_path, workers
):
    status, said = interrupted(
        large, *COMMON, *BLOCKS, *workers, "--output", tmp_path / "stopped.zarr",
        "--checkpoint", files / "net.safetensors",
    )  # fmt: skip
    assert status == 130, said
    assert "The same command resumes" in said
    assert "Traceback" not in said
    with LabelStore.open(tmp_path / "stopped.zarr") as store:
        done = int((store.chunk_status() > 0).sum())
        assert 0 < done < store.chunk_status().size
    for output in ("stopped.zarr", "whole.zarr"):
        assert segment(*BLOCKS, image=str(large), output=output).exit_code == 0
    with (
        LabelStore.open(tmp_path / "stopped.zarr") as stopped,
        LabelStore.open(tmp_path / "whole.zarr") as whole,
    ):
        assert stopped.chunk_status().all()
        assert len(stopped.runs) == 1
        same = stopped.prediction[0][:] == whole.prediction[0][:]
        # not to the bit: this process may use another number of threads
        assert same.mean() > 0.9999


@pytest.fixture
def segment_all(files, tmp_path):
    def run(*images: object, options: tuple[str, ...] = ()):
        command = ["segment", *map(str, images), "--output", str(tmp_path / "all")]
        command += ["--checkpoint", str(files / "net.safetensors"), *COMMON, *options]
        return CliRunner().invoke(app, command)

    return run


@pytest.mark.slow
def test_segment_many_images_skips_finished_ones(segment_all, files, tmp_path):
    first = segment_all(files / "images" / "1.tif", files / "picture.tif")
    assert first.exit_code == 0, first.output
    assert "2 labelled" in first.stdout
    again = segment_all(files / "images" / "*.tif", options=("--json",))
    assert again.exit_code == 0, again.output
    report = lines(again)[-1]
    assert report["event"] == "report"
    assert report["skipped"] == [str(files / "images" / "1.tif")]
    assert report["done"] == [str(files / f"images/{n}.tif") for n in (0, 2)]
    assert {e["image"] for e in lines(again)[:-1]} == {
        str(files / f"images/{n}.tif") for n in range(3)
    }
    for name in ("0.tif", "1.tif", "2.tif", "picture.tif"):
        with LabelStore.open(tmp_path / "all" / f"{name}.labels.zarr") as store:
            assert store.prediction[0][:].all()


@pytest.mark.slow
def test_segment_failed_images_do_not_stop_others(segment_all, files, tmp_path):
    (tmp_path / "empty.tif").touch()
    names = (tmp_path / "empty.tif", files / "picture.tif", tmp_path / "none.tif")
    result = segment_all(*names)
    assert result.exit_code == 1
    assert "1 labelled, 2 failed" in result.stdout
    said = result.stderr.replace("\n", " ")
    assert f"{tmp_path / 'none.tif'}: {tmp_path / 'none.tif'} does not exist" in said
    assert "is empty (0 bytes). Copy or download it again." in said
    report = lines(segment_all(*names, options=("--json",)))[-1]
    assert [f["image"] for f in report["failed"]] == [str(names[0]), str(names[2])]
    assert report["skipped"] == [str(names[1])]


@pytest.mark.slow
def test_segment_pattern_skips_label_stores(files, tmp_path):
    shutil.copy(files / "images" / "0.tif", tmp_path / "a.tif")

    def run(image, *more):
        command = [
            "segment",
            str(tmp_path / image),
            "--output",
            str(tmp_path),
            "--json",
        ]
        command += ["--checkpoint", str(files / "net.safetensors"), *COMMON, *more]
        return CliRunner().invoke(app, command)

    for _ in range(2):
        result = run("*")
        assert result.exit_code == 0, result.output
    assert lines(result)[-1]["skipped"] == [str(tmp_path / "a.tif")]
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif", "a.tif.labels.zarr"}
    assert "Only label stores match" in run("*.zarr").stderr
    for more in ((), ("--dry-run",)):
        result = run("a.tif.labels.zarr", "--output", str(tmp_path / "new.zarr"), *more)
        assert result.exit_code == 1
        assert "contains the labels of a.tif" in result.stderr
        assert str(tmp_path / "a.tif") in result.stderr.replace("\n", "")


@pytest.mark.slow
def test_segment_pattern_without_match_and_equal_names_fail(
    segment_all, files, tmp_path
):
    result = segment_all(tmp_path / "*.svs")
    assert result.exit_code == 1
    assert "No file matches" in result.stderr
    result = segment_all(files / "images" / "0.tif", files / "masks" / "0.tif")
    assert result.exit_code == 1
    assert "same name" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_segment_many_images_refuse_store_as_folder(segment, segment_all, files):
    segment(output="all")
    result = segment_all(files / "images" / "*.tif")
    assert result.exit_code == 1
    assert "not a plain folder" in result.stderr


@pytest.mark.slow
def test_segment_workers_give_labels_of_one_process(segment, tmp_path):
    with forked_workers():
        result = segment("--workers", "2", "--json", output="two.zarr")
    assert result.exit_code == 0, result.output
    names = [event["event"] for event in lines(result)]
    assert names[0] == "planned"
    assert names[-1] == "finished"
    segment(output="one.zarr")
    with (
        LabelStore.open(tmp_path / "one.zarr") as one,
        LabelStore.open(tmp_path / "two.zarr") as two,
    ):
        # not to the bit: workers have fewer threads
        same = one.prediction[0][:] == two.prediction[0][:]
        assert same.mean() > 0.9999
        assert len(two.runs) == 1


def test_segment_unreachable_scheduler_prints_message(segment, monkeypatch, tmp_path):
    connect_quickly(monkeypatch)
    result = segment("--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no scheduler at 'tcp://127.0.0.1:9'" in result.stderr
    assert "dask scheduler" in result.stderr
    assert not list(tmp_path.iterdir())


def test_segment_refuses_scheduler_with_workers(segment):
    result = segment("--scheduler", "tcp://127.0.0.1:9", "--workers", "2")
    assert result.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("fallback", [True, False])
def test_segment_continues_on_cpu_only_with_cpu_fallback(
    segment, monkeypatch, fallback
):
    full = fake_gpu(monkeypatch)
    assert segment("--device", "mps", "--dry-run").exit_code == 0
    full.set()
    options = ["--cpu-fallback"] if fallback else []
    result = segment("--device", "mps", *options)
    assert result.exit_code == (0 if fallback else 1)
    said = "Apple GPU has too little memory for one window"
    assert (said in " ".join(result.output.split())) != fallback
