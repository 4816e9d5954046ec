"""Tests of the proposed output: beside the image, or in the home folder."""

from pathlib import Path

import pytest
from upath import UPath

from napari_uhrseg.samples import data_dir
from napari_uhrseg.ui.segment.output import default_output


@pytest.mark.parametrize(
    ("name", "series", "output"),
    [
        ("a.tif", 0, "a_labels.zarr"),
        ("a.ome.tif", 0, "a_labels.zarr"),
        ("a.OME.ZARR", 2, "a_2_labels.zarr"),
        ("a", 0, "a_labels.zarr"),
    ],
)
def test_output_is_beside_the_image(tmp_path, name, series, output):
    assert default_output(tmp_path / name, series) == tmp_path / output


def test_output_of_a_sample_or_url_is_in_the_home_folder():
    for path in (data_dir() / "slide.tif", UPath("https://example.org/slide.tif")):
        assert default_output(path) == Path.home() / "slide_labels.zarr"
