"""Choice of the bands, values and scale of a network's input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.planning.image_fit import fit_bands
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Band
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import PER_BAND, Card, Roi, Run, SegmentSettings, View

BUDGET = MemoryBudget("cpu", 1 << 30, 1 << 30)
ONE = SegmentSettings(device="cpu", precision="fp32", threads=1)
SIDE = 200


@pytest.fixture
def colours():
    coarse = np.random.default_rng(0).integers(0, 255, (SIDE // 8, SIDE // 8, 3))
    return coarse.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def blue_first(tmp_path, colours):
    """A GeoTIFF of blue, green, red and near infrared, which says so."""
    path = tmp_path / "bgrn.tif"
    shape = {"width": SIDE, "height": SIDE, "count": 4, "dtype": "uint8",
             "transform": from_origin(500000, 5800000, 0.5, 0.5)}  # fmt: skip
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK",
                       **shape) as file:  # fmt: skip
        file.write(np.moveaxis(colours[:, :, [2, 1, 0, 0]], -1, 0))
        file.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red,
                            ColorInterp.undefined]  # fmt: skip
    return open_image(path)


def labels(image, settings=ONE):
    with LabelStore.create(None, image, LEGEND) as store:
        list(segment(image, make_checkpoint(ToyNet()), store, settings, BUDGET))
        return np.asarray(store.prediction[0][:])


def test_a_network_for_colours_gets_red_green_and_blue(blue_first, colours):
    in_order = labels(image_from_array(colours, name="rgb", rgb=True))
    assert (labels(blue_first) == in_order).all()
    as_in_the_file = labels(blue_first, replace(ONE, bands=(0, 1, 2)))
    assert (as_in_the_file != in_order).any()


def test_learning_and_judging_get_the_bands_that_a_run_gets(blue_first):
    spec = make_checkpoint(ToyNet()).card.spec
    run = make_plan(blue_first, make_checkpoint(ToyNet()), ONE, BUDGET).run
    assert Scene("s", blue_first, None).fitted(spec).bands == run.bands == (2, 1, 0)


def test_other_numbers_of_bands_are_taken_in_the_order_of_the_file(blue_first):
    assert fit_bands(blue_first, 4) == (0, 1, 2, 3)
    assert fit_bands(blue_first, 2) == (0, 1)


def test_a_run_with_bands_of_its_own_goes_on_by_naming_them(blue_first):
    checkpoint = make_checkpoint(ToyNet())
    chosen = replace(ONE, bands=(0, 1, 2))
    with LabelStore.create(None, blue_first, LEGEND) as store:
        for _ in range(2):
            list(segment(blue_first, checkpoint, store, chosen, BUDGET))
        assert [run.bands for run in store.runs] == [(0, 1, 2)]


def raster_of(names):
    """Return a 16-bit image of four bands with these names; infrared is brighter."""
    values = np.random.default_rng(0).integers(0, 2000, (SIDE, SIDE, 4))
    values[..., 3] += 6000
    image = image_from_array(values.astype(np.uint16), name="four", axes="yxs")
    image.bands = tuple(map(Band, names))
    return image


def test_plan_names_the_bands_and_the_range_of_the_bands_used():
    image = raster_of(("blue", "green", "red", "nir"))
    plan = make_plan(image, make_checkpoint(ToyNet()), ONE, BUDGET)
    assert plan.run.bands == (2, 1, 0)
    low, high = plan.run.value_range
    assert 0 <= low < 20
    assert 1980 < high < 2000
    assert plan.input == (
        f"red, green, blue (bands 2, 1, 0), values {low:,.6g} to {high:,.6g}"
    )
    assert not plan.warnings
    chosen = replace(ONE, bands=(3, 2, 1), value_range=(0, 8000))
    plan = make_plan(image, make_checkpoint(ToyNet()), chosen, BUDGET)
    assert plan.input == "nir, red, green (bands 3, 2, 1), values 0 to 8,000"


def test_plan_asks_for_bands_if_their_colours_are_not_known():
    image = raster_of(("a", "b", "c", "d"))
    (question,) = make_plan(image, make_checkpoint(ToyNet()), ONE, BUDGET).questions
    assert question.topic == "bands"
    chosen = replace(ONE, bands=(0, 1, 2))
    assert not make_plan(image, make_checkpoint(ToyNet()), chosen, BUDGET).questions


def test_single_band_fills_every_channel():
    image = image_from_array(np.zeros((SIDE, SIDE), np.uint8), name="grey")
    plan = make_plan(image, make_checkpoint(ToyNet()), ONE, BUDGET)
    assert plan.input == "value (band 0, in every channel), values 0 to 255"


def test_value_range_of_each_band_is_planned_and_applied():
    image = raster_of(("red", "green", "blue", "nir"))
    values = (0.0, 100.0, 10.0, 30.0, 5.0, 9.0)
    plan = make_plan(
        image, make_checkpoint(ToyNet()), replace(ONE, value_range=values), BUDGET
    )
    assert plan.input.endswith("values 0 to 100; 10 to 30; 5 to 9")
    assert plan.run.value_range == values
    assert Run.from_dict(json.loads(json.dumps(plan.run.to_dict()))) == plan.run
    spec = replace(ToyNet().spec, mean=(0.0,) * 3, std=(1.0,) * 3)
    spec = replace(spec, views={"local": View(4, 4)}, window=4)
    data = np.full((4, 4, 3), (50, 20, 9), np.uint16)
    pixels = image_from_array(data, name="i", rgb=True)
    batch = read_pixels(
        pixels, [Roi(0, 0, 4, 4)], spec, bands=(0, 1, 2), value_range=values
    ).normalized(torch.device("cpu"))
    found = batch.views["local"][0, :, 0, 0]
    np.testing.assert_allclose(found, (0.5, 0.5, 1.0), atol=1e-6)


def test_each_band_gets_the_range_of_its_own_values():
    image = raster_of(("red", "green", "blue", "nir"))
    chosen = replace(ONE, bands=(3, 1, 3), value_range=PER_BAND)
    run = make_plan(image, make_checkpoint(ToyNet()), chosen, BUDGET).run
    assert len(run.value_range) == 6
    for low, high, least in zip(
        run.value_range[::2], run.value_range[1::2], (6000, 0, 6000), strict=True
    ):
        assert least <= low < least + 20
        assert least + 1980 < high < least + 2000
    # a checkpoint that was trained in this way needs no setting
    made = make_checkpoint(ToyNet())
    spec = replace(made.card.spec, value_range=PER_BAND)
    assert spec.describe_values() == "that of each band of each image"
    card = Card.from_dict(
        json.loads(json.dumps(replace(made.card, spec=spec).to_dict()))
    )
    assert card.spec.value_range == PER_BAND
    made = replace(made, card=card)
    settings = replace(ONE, bands=(3, 1, 3))
    assert make_plan(image, made, settings, BUDGET).run.value_range == run.value_range


def test_value_range_of_too_few_bands_is_refused():
    image = raster_of(("red", "green", "blue", "nir"))
    for_two = replace(ONE, value_range=(0, 1, 0, 1))
    with pytest.raises(PlanError, match="has 4 numbers, and the network takes 3 bands"):
        make_plan(image, make_checkpoint(ToyNet()), for_two, BUDGET)


def test_card_states_the_value_range_of_each_band():
    spec = replace(ToyNet().spec, value_range=(0, 1, 0, 2, 0, 3))
    assert spec.describe_values() == "0 to 1; 0 to 2; 0 to 3"
    with pytest.raises(ValueError, match="not 2 finite numbers"):
        replace(spec, value_range=(0, 1, 0, 2))


def test_empty_value_range_is_refused():
    image = raster_of(("a", "b", "c", "d"))
    empty = replace(ONE, value_range=(7, 7))
    with pytest.raises(PlanError, match="7 to 7 is empty"):
        make_plan(image, make_checkpoint(ToyNet()), empty, BUDGET)
