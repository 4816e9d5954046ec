"""Cleaned labels as a store, and their export and areas on the command line."""

import json

import numpy as np
import pytest
import tifffile
from rasterio.features import sieve
from skimage.filters.rank import majority
from skimage.morphology import remove_small_objects
from typer.testing import CliRunner

from helpers.label_stores import LEGEND, RUN, FakeImage, assert_levels_consistent
from napari_uhrseg.cli import app
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.cleanup.clean_labels import clean_labels, size_in_pixels
from napari_uhrseg.io.export.registry import shown_legend
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import AreaSize, Block, CleanUp, Roi

SHAPE = (1060, 1040)  # four chunks
SMALL = VectorLimits(band_bytes=1, strip_pixels=1)  # strips of 16 rows


def picture() -> np.ndarray:
    noise = np.random.default_rng(0)
    coarse = noise.integers(0, 3, (1060 // 20, 1040 // 20), np.uint8)
    labels = coarse.repeat(20, 0).repeat(20, 1)
    specks = noise.random(SHAPE) < 0.02
    labels[specks] = noise.integers(0, 3, int(specks.sum()))
    return labels


@pytest.fixture
def store(tmp_path):
    image = FakeImage(shape=SHAPE, pixel_size=(0.5, 0.5))
    labels = picture()
    with LabelStore.create(tmp_path / "a.labels.zarr", image, LEGEND) as opened:
        run = opened.run_ledger.start_run(RUN)
        for roi in Roi(0, 0, *SHAPE).tiles(1024):
            part = labels[roi.slices]
            opened.write(Block(roi, part, np.ones_like(part)), run.id, "done")
        yield opened


def cleaned(store, folder, **settings: object) -> np.ndarray:
    folder.mkdir()
    *_, path = clean_labels(store, CleanUp(**settings), folder, SMALL)
    with LabelStore.open(path) as found:
        assert_levels_consistent(found)
        assert found.name == store.name
        assert {c.id for c in found.legend} == {c.id for c in shown_legend(store)}
        assert (found.pixel_size, found.unit) == (store.pixel_size, store.unit)
        return found.prediction[0][:]


@pytest.mark.slow
def test_cleaned_store_equals_filters_on_the_whole_image(store, tmp_path):
    sizes = {"min_object": AreaSize(30), "fill_holes": AreaSize(30)}
    labels = picture()
    np.testing.assert_array_equal(
        cleaned(store, tmp_path / "1", **sizes), sieve(labels, 30)
    )
    smooth = majority(labels, np.ones((5, 5), np.uint8))
    np.testing.assert_array_equal(
        cleaned(store, tmp_path / "2", majority=2, **sizes), sieve(smooth, 30)
    )
    np.testing.assert_array_equal(cleaned(store, tmp_path / "3", majority=2), smooth)


def test_sizes_follow_the_pixel_size(store, tmp_path):
    assert size_in_pixels(store, AreaSize.parse("10 um2")) == pytest.approx(40)
    assert size_in_pixels(store, AreaSize.parse("40")) == 40
    image = FakeImage(shape=(20, 20), pixel_size=None)
    with (
        LabelStore.create(tmp_path / "b.zarr", image, LEGEND) as unknown,
        pytest.raises(UhrSegError, match="pixel size of the image is unknown"),
    ):
        size_in_pixels(unknown, AreaSize.parse("10 um2"))


def test_merged_classes_stay_merged(store, tmp_path):
    store.legend_editor.merge_class(1, 2)
    expected = picture()
    expected[expected == 1] = 2
    np.testing.assert_array_equal(
        cleaned(store, tmp_path / "1", min_object=AreaSize(30)) == 0,
        ~remove_small_objects(expected > 0, max_size=29),
    )


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_export_of_cleaned_labels(store, tmp_path):
    output = tmp_path / "labels.tif"
    result = invoke("export", store.path, "--format", "cog", "--output", output,
                    "--min-object", "7.5 um2", "--fill-holes", 30)  # fmt: skip
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(output), sieve(picture(), 30))
    np.testing.assert_array_equal(store.prediction[0][:], picture())
    refused = invoke("export", store.path, "--format", "confidence", "--output",
                     tmp_path / "c.tif", "--majority", 1)  # fmt: skip
    assert refused.exit_code == 2
    assert "only labels" in refused.stderr


def test_areas_of_cleaned_labels(store):
    def counts(*options: object) -> dict[int, int]:
        result = invoke("areas", store.path, "--json", *options)
        assert result.exit_code == 0, result.output
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        table = next(row for row in rows if row["event"] == "areas")
        return {r["label"]["id"]: r["pixels"] for r in table["rows"]}

    labels = sieve(picture(), 30)
    assert counts("--min-object", 30, "--fill-holes", 30) == {
        k: int((labels == k).sum()) for k in (1, 2)
    }
    assert counts() == {k: int((picture() == k).sum()) for k in (1, 2)}
