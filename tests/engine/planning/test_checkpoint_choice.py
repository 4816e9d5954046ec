"""Test the choice of a checkpoint for an image: bands, pixel size and kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_uhrseg.engine.planning.checkpoint_choice import (
    closest,
    describe_misfit,
    fits,
    kind_of,
    misfits,
    ranked,
)
from napari_uhrseg.engine.planning.image_fit import fit_scale
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.samples import data_dir
from napari_uhrseg.types import Card, InputSpec, LabelClass, Legend, View
from napari_uhrseg.ui.plugin import virtual_image

COMPUTED, REAL = "computed: a test", "a data set"


def card(pixel_size: float | None, source: str = REAL, channels: int = 3) -> Card:
    values = (0.5,) * channels
    spec = InputSpec(
        {"local": View(64)},
        64,
        channels,
        mean=values,
        std=values,
        pixel_size=pixel_size,
    )
    return Card(
        "plain", {}, Legend((LabelClass(1, "a", "#000000"),)), spec, source=source
    )


def image(pixel_size: float | None, bands: int = 3) -> Image:
    sizes = None if pixel_size is None else (pixel_size, pixel_size)
    array = np.zeros((8, 8, bands), np.uint8)
    return image_from_array(
        array, name="new", axes="yxc", pixel_size=sizes, unit="metre"
    )


def paths(*cards: Card) -> dict[Path, Card]:
    return {Path(f"{k}"): one for k, one in enumerate(cards)}


def sample_cards() -> dict[Path, Card]:
    return {path: read_card(path) for path in sorted(data_dir().glob("*.safetensors"))}


@pytest.mark.parametrize("name", ["scene.tif", "slide.tif", "virtual"])
def test_a_sample_image_has_a_checkpoint_that_fits(name):
    made = virtual_image(4096) if name == "virtual" else open_image(data_dir() / name)
    cards = sample_cards()
    path = closest(made, cards)
    assert path is not None
    found = cards[path]
    assert 1 / 4 <= fit_scale(made, found.spec)[0] <= 4
    assert found.spec.channels == 3
    if name == "slide.tif":
        assert [c.name for c in found.legend][:2] == ["glass", "stroma"]


def test_pixel_sizes_fit_within_a_factor_of_four():
    spec = card(0.5).spec
    assert fits(image(2.0), spec)
    assert fits(image(0.125), spec)
    assert not fits(image(2.1), spec)
    assert not fits(image(0.5e-6), spec)
    assert fits(image(None), spec)
    assert fits(image(0.5e-6), card(None).spec)


def test_a_checkpoint_of_more_bands_does_not_fit():
    made = image(0.5, bands=2)
    assert not fits(made, card(0.5).spec)
    assert fits(made, card(0.5, channels=1).spec)
    assert closest(made, paths(card(0.5))) is None


def test_reasons_name_the_values_of_checkpoint_and_image():
    assert misfits(image(0.5e-6, bands=2), card(0.5).spec) == (
        "takes 3 bands, the image has 2",
        "trained at 50 cm/px, the image has 0.5 µm/px",
    )
    reason = describe_misfit(misfits(image(0.5, bands=2), card(0.5).spec))
    assert reason == "Does not fit: takes 3 bands, the image has 2."
    assert describe_misfit(misfits(image(0.5), card(0.5).spec)) == ""


@pytest.mark.parametrize(
    ("dtype", "values", "reason"),
    [
        (np.uint8, (0, 255), ""),
        (np.uint8, (0, 64), ""),
        (np.uint8, (0, 1), "trained on values 0 to 1, the image has 8 bits"),
        (np.uint8, (0, 4095), "trained on values 0 to 4,095, the image has 8 bits"),
        (np.uint16, (0, 4095), ""),
        (np.uint16, (0, 255), "trained on values 0 to 255, the image has 16 bits"),
    ],
)
def test_value_ranges_of_other_types_do_not_fit(dtype, values, reason):
    made = image_from_array(np.zeros((8, 8, 3), dtype), name="new", axes="yxc")
    found = misfits(made, replace(card(None).spec, value_range=values))
    assert found == ((reason,) if reason else ())


def test_kind_of_image_counts_if_a_pixel_size_is_unknown():
    slide, ground = image(None), image(None)
    slide.is_slide, ground.crs = True, "EPSG:32633"
    assert [kind_of(made) for made in (slide, ground)] == ["slide", "map"]
    assert [kind_of(image(size)) for size in (0.5e-6, 0.5, None)] == [
        "slide", "map", None,
    ]  # fmt: skip
    assert misfits(slide, card(0.5).spec) == ("trained on a map, the image is a slide",)
    assert misfits(ground, card(0.5e-6).spec) == (
        "trained on a slide, the image is a map",
    )
    assert fits(ground, card(0.5).spec)


def test_checkpoints_with_fewer_reasons_against_them_come_first():
    cards = paths(card(9.0, channels=4), card(9.0), card(0.6), card(0.5))
    assert [path.name for path in ranked(image(0.5), cards)] == ["3", "2", "1", "0"]


def test_the_closest_pixel_size_of_real_images_is_chosen():
    cards = paths(card(0.5, COMPUTED), card(None), card(1.5), card(0.7), card(9.0))
    assert closest(image(0.5), cards) == Path("3")
    assert closest(image(20.0), cards) == Path("4")
    assert closest(image(0.01), cards) == Path("1")
