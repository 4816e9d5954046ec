"""Run the commands and the Python that the README and the how-to pages show."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_uhrseg import LabelStore, open_image
from napari_uhrseg.cli import app
from napari_uhrseg.types import LabelClass, Legend

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "docs" / "get-started.md", *sorted(ROOT.glob("docs/how-to/*.md"))]
COMMANDS = [
    line
    for page in PAGES
    for block in re.findall(
        r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for line in block.splitlines()
    if line.startswith("napari-uhrseg ") and "demo" not in line
]
ON_SAMPLES = [line for line in COMMANDS if "sample_data" in line and "--roi" in line]


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Make a folder that has the samples of a new clone."""
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)


def test_napari_remembers_the_reader(tmp_path):
    from napari.plugins.utils import get_preferred_reader
    from napari.settings import get_settings

    page = (ROOT / "docs" / "how-to" / "window.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    before = dict(get_settings().plugins.extension2reader)
    try:
        exec(code, {})
        (tmp_path / "image.zarr").mkdir()
        for name in ("slide.svs", "scene.tif", "image.zarr"):
            assert get_preferred_reader(name) == "napari-uhrseg"
    finally:
        get_settings().plugins.extension2reader = before
        get_settings().save()


@pytest.mark.slow
def test_figure_shows_the_image_the_labels_and_a_scale_bar():
    page = (ROOT / "docs" / "how-to" / "figures.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    image = open_image("sample_data/scene.tif")
    legend = Legend(
        (LabelClass(1, "lake", "#0000ff"), LabelClass(2, "road", "#808080"))
    )
    with LabelStore.create("labels.zarr", image, legend) as store:
        for level in store.prediction:
            level[: level.shape[0] // 2] = 1
    exec(compile(code, "figures.md", "exec"), {})
    with Image.open("map.png") as file:
        found = np.asarray(file).astype(int)
    side = 2048
    assert found.shape == (side + 130, 2 * side + 20, 3)
    left, right = found[:side, :side], found[:side, side + 20 :]
    np.testing.assert_array_equal(left[side // 2 :], right[side // 2 :])
    blue = np.array([0, 0, 255])
    mixed = (left[: side // 2] + blue) // 2
    np.testing.assert_array_equal(right[: side // 2], mixed)
    assert (found[side + 20, :510] == 0).all(axis=1).sum() == 501  # 500 m of 1 m
    assert (found[side + 90, 20] == blue).all()


@pytest.mark.slow
def test_commands_on_the_samples_work():
    assert ON_SAMPLES
    for line in ["napari-uhrseg info sample_data/scene.tif", *ON_SAMPLES]:
        assert line in COMMANDS
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"


def test_the_readme_fits_on_one_screen_and_its_links_exist():
    assert len(README.splitlines()) <= 60
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
