"""``napari-uhrseg segment`` as people type it."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.labels import LabelStore

COMMON = ("--device", "cpu", "--precision", "fp32")


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


def test_an_image_is_labelled_and_its_areas_told(segment, tmp_path):
    result = segment()
    assert result.exit_code == 0, result.output
    assert "windows" in result.stdout
    assert "dark" in result.stdout
    assert "labels.zarr" in result.stdout
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        labels = store.prediction[0][:]
    assert labels.shape == (300, 420)
    assert set(np.unique(labels)) <= {1, 2}


def test_json_is_all_there_is_on_stdout(segment):
    events = lines(segment("--json"))
    names = [event["event"] for event in events]
    assert names[0] == "planned"
    assert names[-1] == "finished"
    assert "block_done" in names
    assert events[0]["estimate"]["device_bytes"] > 0
    assert events[-1]["failed"] == 0


def test_a_finished_run_has_nothing_left_to_do(segment):
    segment()
    names = [event["event"] for event in lines(segment("--json"))]
    assert names == ["planned", "finished"]


def test_a_dry_run_writes_nothing(segment, tmp_path):
    result = segment("--dry-run", "--memory-budget", "2GB", "--overlap", "16")
    assert result.exit_code == 0, result.output
    assert "windows" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_rectangle_is_all_that_is_labelled(segment, tmp_path):
    assert segment("--roi", "100,200,50,60").exit_code == 0
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        labels = store.prediction[0][:]
    assert labels[100:150, 200:260].all()
    labels[100:150, 200:260] = 0
    assert not labels.any()


@pytest.mark.parametrize("roi", ["1,2,3", "a,b,c,d", "0,0,0,5"])
def test_a_wrong_rectangle_is_a_wrong_usage(segment, roi):
    result = segment("--roi", roi)
    assert result.exit_code == 2
    assert "y,x,height,width" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--memory-budget", "lots"), "2GB"),
        (("--overlap", "64"), "overlap"),
        (("--roi", "5000,5000,9,9"), "outside"),
        (("--device", "cuda:9"), "no device"),
        (("--bands", "0,7,1"), "Bands"),
    ],
)
def test_what_cannot_be_is_said_in_words(segment, options, said):
    result = segment(*options)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.output


def test_another_images_store_is_left_alone(segment, files, tmp_path):
    segment()
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((90, 80, 3), np.uint8))
    result = segment(image=str(tmp_path / "other.tif"))
    assert result.exit_code == 1
    assert "80 x 90" in result.stderr


def test_other_settings_ask_before_replacing(segment):
    segment()
    result = segment("--overlap", "32")
    assert result.exit_code == 1
    assert "small net" in result.stderr
    assert segment("--overlap", "32", "--replace").exit_code == 0


# seven blocks however fast the machine is, so that there is a run to interrupt
SMALL_BLOCKS = """
from napari_uhrseg.cli import app
from napari_uhrseg.engine import plan
plan._block_chunks = lambda *_: 1
app()
"""


def test_interrupted_and_continued_it_ends_with_the_same_labels(
    segment, files, tmp_path
):
    image = tmp_path / "large.tif"
    noise = np.random.default_rng(0)
    tifffile.imwrite(
        image,
        noise.integers(0, 255, (7168, 200, 3), np.uint8),
        photometric="rgb",
        tile=(256, 256),
    )

    run = subprocess.Popen(
        [
            sys.executable, "-c", SMALL_BLOCKS, "segment", image, *COMMON, "--json",
            "--output", tmp_path / "stopped.zarr",
            "--checkpoint", files / "net.safetensors",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    for line in run.stdout:
        if '"block_done"' in line:
            break
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the same command goes on" in said
    with LabelStore.open(tmp_path / "stopped.zarr") as store:
        done = int((store.state() > 0).sum())
        assert 0 < done < store.state().size
    for output in ("stopped.zarr", "whole.zarr"):
        assert segment(image=str(image), output=output).exit_code == 0
    with (
        LabelStore.open(tmp_path / "stopped.zarr") as stopped,
        LabelStore.open(tmp_path / "whole.zarr") as whole,
    ):
        assert len(stopped.runs) == 1
        same = stopped.prediction[0][:] == whole.prediction[0][:]
        # not to the bit: this process may use another number of threads
        assert same.mean() > 0.9999
