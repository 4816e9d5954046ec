"""Detection of tissue, against masks that do not come from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw

from napari_uhrseg.errors import PlanError, UhrSegError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.tissue.detect import count_pieces, detect_tissue
from napari_uhrseg.samples import data_dir, slide
from napari_uhrseg.types import AreaSize, Roi, TissueSettings

REAL = Path(__file__).parents[3] / "../shared/data/files"
GLASS, STAIN = (240, 238, 242), (180, 90, 160)


def picture(**options: object):
    """Return a slide with a square piece that has a hole, and a speck."""
    data = np.full((300, 300, 3), GLASS, np.uint8)
    data[100:200, 100:200] = STAIN
    data[140:150, 140:150] = GLASS
    data[20:25, 20:25] = STAIN
    return image_from_array(data, name="slide", rgb=True, is_slide=True, **options)


SHARP = TissueSettings(
    smoothing=0, smallest_piece=AreaSize(0), largest_hole=AreaSize(0)
)


def test_detection_finds_stain():
    mask = detect_tissue(picture(), SHARP)
    assert mask.pixels.sum() == 100 * 100 - 100 + 25
    assert count_pieces(mask) == 2
    assert "saturation" in mask.source


def test_sizes_are_limits_of_pieces_and_holes():
    def found(piece: float, hole: float) -> int:
        sizes = {"smallest_piece": AreaSize(piece), "largest_hole": AreaSize(hole)}
        settings = TissueSettings(smoothing=0, **sizes)
        return int(detect_tissue(picture(), settings).pixels.sum())

    assert found(25, 100) == 100 * 100 - 100 + 25  # neither is smaller
    assert found(26, 100) == 100 * 100 - 100
    assert found(26, 101) == 100 * 100


def test_sizes_in_micrometres_need_a_pixel_size():
    settings = TissueSettings(smoothing=0, smallest_piece=AreaSize(101, "µm²"))
    image = picture(pixel_size=(2.0, 2.0), unit="micrometer")
    assert count_pieces(detect_tissue(image, settings)) == 1
    with pytest.raises(UhrSegError, match="pixel size of the image is unknown"):
        detect_tissue(picture(), settings)


def test_thresholds_by_hand_replace_those_of_otsu():
    none = TissueSettings(saturation=1.0, density=9.0)
    assert not detect_tissue(picture(), none).pixels.any()
    every = TissueSettings(saturation=0.0)
    assert detect_tissue(picture(), every).pixels.all()


def test_invalid_pixels_are_no_tissue():
    data = np.full((64, 64, 3), STAIN, np.uint8)
    data[:, 40:] = 0
    image = image_from_array(data, name="part", rgb=True, nodata=0)
    settings = TissueSettings(saturation=0.1, largest_hole=AreaSize(1e6))
    mask = detect_tissue(image, settings)
    assert mask.pixels[:, :40].all()
    assert not mask.pixels[:, 40:].any()


def test_image_without_colours_is_refused():
    image = image_from_array(np.zeros((20, 20), np.uint8), name="grey")
    with pytest.raises(PlanError, match="no red, green and blue bands"):
        detect_tissue(image)


@pytest.mark.slow
def test_tissue_of_the_sample_slide():
    image = open_image(data_dir() / "slide.tif")
    height, width = slide.SHAPE
    xs = np.arange(0, width, 4, dtype=float) + 1.5
    ys = np.arange(0, height, 4, dtype=float) + 1.5
    tissue = slide.tissue_depth(ys, xs) > 0  # by the recipe of the slide
    mask = detect_tissue(image).pixels
    assert (mask & ~tissue).sum() <= 0.01 * mask.sum()
    assert (mask & tissue).sum() >= 0.99 * tissue.sum()


@pytest.mark.skipif(not REAL.exists(), reason="needs the real files")
@pytest.mark.slow
def test_tissue_of_a_real_slide():
    image = open_image(REAL / "aperio_cmu1_small_region.svs")
    drawn = json.loads((Path(__file__).parent / "cmu1_small_region.json").read_bytes())
    tissue, background = (
        filled(drawn[name], image.shape) for name in ("tissue", "background")
    )
    assert tissue.mean() > 0.2
    assert background.mean() > 0.5
    mask = detect_tissue(image).inside(Roi(0, 0, *image.shape))
    assert (mask & background).sum() <= 0.01 * mask.sum()
    assert (mask & tissue).sum() >= 0.99 * tissue.sum()


def filled(polygons: list, shape: tuple[int, int]) -> np.ndarray:
    mask = Picture.new("1", shape[::-1])
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon([tuple(p) for p in polygon], fill=1)
    return np.asarray(mask)
