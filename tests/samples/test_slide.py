from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_uhrseg.samples import data_dir, slide


def test_regions_of_the_slide_agree() -> None:
    a = slide.render(1500, 2000, 90, 130)
    b = slide.render(1520, 2040, 90, 130)
    assert a.dtype == np.uint8
    np.testing.assert_allclose(a[20:, 40:], b[:70, :90], atol=1)


def test_slide_is_tissue_on_glass() -> None:
    glass = slide.render(0, 0, 64, 64)
    assert glass.min() > 230
    tissue = slide.render(1700, 2100, 256, 256)
    red, green, blue = tissue.reshape(-1, 3).mean(0)
    assert green < red
    assert green < blue


def _check(path: Path, shape: tuple[int, int], levels: int) -> None:
    with tifffile.TiffFile(path) as file:
        pages = file.pages
        assert len(pages) == levels
        for number, page in enumerate(pages):
            assert isinstance(page, tifffile.TiffPage)
            assert page.is_tiled
            assert page.shape[:2] == (shape[0] >> number, shape[1] >> number)
            per_cm = page.tags["XResolution"].value
            assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
            pixel = 1e4 * per_cm[1] / per_cm[0]
            assert pixel == pytest.approx(slide.PIXEL_SIZE_UM * 2**number)


def test_sample_slide_is_a_pyramid_of_known_scale() -> None:
    path = data_dir() / "slide.tif"
    _check(path, slide.SHAPE, 6)
    with tifffile.TiffFile(path) as file:
        coarse = file.pages[4].asarray()
    assert 0.5 < (coarse.min(-1) > 230).mean() < 0.9


def test_write_a_part(tmp_path: Path) -> None:
    slide.write_slide(tmp_path / "part.tif", (640, 768))
    _check(tmp_path / "part.tif", (640, 768), 6)
