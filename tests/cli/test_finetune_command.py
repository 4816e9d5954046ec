"""``napari-uhrseg finetune``: refused images."""

from typer.testing import CliRunner

from helpers.label_stores import LEGEND, FakeImage
from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.paths import to_path


def test_image_that_a_store_names_by_a_url_is_not_opened_unasked(tmp_path, files):
    url = "memory://elsewhere/none.tif"
    store = tmp_path / "labels.zarr"
    LabelStore.create(store, FakeImage(path=to_path(url)), LEGEND).close()
    command = ["finetune", store, "--checkpoint", files / "net.safetensors",
               "--output", tmp_path / "new.safetensors"]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 1
    assert f"by a URL, which is not opened unasked: {url}" in result.stderr
    assert f"--image {url}" in result.stderr
    command += ["--image", url]  # now it is opened, and is missing
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert f"{url} does not exist" in result.stderr
