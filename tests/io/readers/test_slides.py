"""Slides through OpenSlide: a file like Aperio's made here, and real ones."""

import builtins
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from napari_uhrseg.errors import OpenError, ReadError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.readers.slides import on_background, open_slide, pixel_size
from napari_uhrseg.types import Roi

REAL = Path(__file__).parents[3] / "../shared/data/files"
DESCRIPTION = "Aperio Image Library v11.2.1 \r\n1000x700|AppMag = 20|MPP = 0.4990"


def picture(height: int = 700, width: int = 1000) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    red = 128 + 100 * np.sin(y / 40)
    return np.stack([red, 255 * x / width, 200 * y / height], -1).astype(np.uint8)


def write_svs(path: Path, image: np.ndarray, *, mpp: bool = True) -> Path:
    """Full image, thumbnail, quarter: the order of pages Aperio has."""
    about = DESCRIPTION if mpp else DESCRIPTION.split("|MPP")[0]
    tiles: dict = {"tile": (240, 240), "compression": "deflate", "photometric": "rgb"}
    tiles["metadata"] = None
    with tifffile.TiffWriter(path) as file:
        file.write(image, description=about, **tiles)
        file.write(image[::8, ::8], photometric="rgb", metadata=None)
        file.write(image[::4, ::4], **tiles)
    return path


def whole(image: Image) -> np.ndarray:
    return image.read(Roi(0, 0, *image.shape)).data


@pytest.fixture
def svs(tmp_path: Path) -> Path:
    return write_svs(tmp_path / "a.svs", picture())


def test_levels_pixels_and_size(svs: Path) -> None:
    image = open_slide(svs, None)
    assert image.shape == (700, 1000)
    assert image.downsamples[:2] == (1.0, 4.0)
    assert image.pixel_size == (0.499, 0.499)
    assert image.unit == "micrometer"
    assert image.is_slide
    assert image.rgb
    assert image.sources[0].chunks == (480, 480, 3)
    np.testing.assert_array_equal(whole(image), picture())
    quarter = image.read(Roi(0, 0, 700, 1000), (175, 250)).data
    np.testing.assert_array_equal(quarter, picture()[::4, ::4])


def test_same_content_same_fingerprint(svs: Path, tmp_path: Path) -> None:
    other = write_svs(tmp_path / "b.svs", picture()[::-1])
    one, again, two = (open_slide(p, None).fingerprint for p in (svs, svs, other))
    assert one == again
    assert one != two


def test_without_a_pixel_size(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", picture(), mpp=False)
    image = open_slide(path, None)
    assert image.pixel_size is None
    assert image.unit == "pixel"
    assert image.warnings


@pytest.mark.parametrize("value", ["0", "-1", "nan", "much"])
def test_senseless_pixel_size(value: str) -> None:
    about = {"openslide.mpp-x": value, "openslide.mpp-y": "0.5"}
    assert pixel_size(about)[0] is None


def test_nothing_there_is_background() -> None:
    rgba = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [100, 0, 0, 51]]], np.uint8)
    mixed = on_background(rgba, (255, 255, 255))
    assert mixed.tolist() == [[[10, 20, 30], [255, 255, 255], [224, 204, 204]]]


def test_many_threads_read_what_one_reads(svs: Path) -> None:
    image = open_slide(svs, None)
    rng = np.random.default_rng(0)
    rois = [Roi(int(y), int(x), 90, 110) for y, x in rng.integers(-50, 900, (200, 2))]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(image.read, rois))
    alone = open_slide(svs, None)
    for roi, found in zip(rois, together, strict=True):
        expected = alone.read(roi)
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.valid, expected.valid)


def test_one_bad_tile_spoils_only_itself(svs: Path) -> None:
    with tifffile.TiffFile(svs) as file:
        page = file.pages.first
        at, size = page.dataoffsets[-1], page.databytecounts[-1]
    with svs.open("r+b") as raw:
        raw.seek(at)
        raw.write(b"\0" * size)
    image = open_slide(svs, None)
    for _ in range(2):
        with pytest.raises(ReadError):
            image.read(Roi(600, 960, 10, 10))
        np.testing.assert_array_equal(
            image.read(Roi(0, 0, 100, 100)).data, picture()[:100, :100]
        )


def test_missing_package_names_the_extra(
    svs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "openslide":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "openslide", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OpenError) as caught:
        open_slide(svs, None)
    assert "napari-uhrseg[slides]" in caught.value.hint


def test_huge_tile_is_refused_before_it_is_read(svs: Path) -> None:
    with tifffile.TiffFile(svs, mode="r+") as file:
        page = file.pages.first
        page.tags["TileLength"].overwrite(2**31 - 1)
    with pytest.raises(OpenError, match=r"tiles of \d+ x 2147483647 pixels"):
        open_slide(svs, None)


def test_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.mrxs"
    path.write_text("this is no slide")
    with pytest.raises(OpenError) as caught:
        open_image(path)
    assert caught.value.hint
    with pytest.raises(OpenError):
        open_slide(tmp_path, None)


def test_there_is_one_series(svs: Path) -> None:
    with pytest.raises(OpenError, match="one image"):
        open_slide(svs, 1)


DICOM = [p for p in [REAL / "dicom_wsi_cmu1"] if p.exists()]


@pytest.mark.parametrize(
    "path", DICOM + [f for d in DICOM for f in sorted(d.glob("*.dcm"))[:1]]
)
def test_real_dicom_as_folder_and_as_file(path: Path) -> None:
    image = open_image(path)
    assert image.shape == (2967, 2220)
    assert image.pixel_size == pytest.approx((0.499, 0.499))
    assert image.is_slide
    part = image.read(Roi(1000, 900, 300, 400)).data
    file = path if path.is_file() else min(path.glob("*.dcm"))
    with openslide.OpenSlide(file) as slide:
        expected = np.asarray(slide.read_region((900, 1000), 0, (400, 300)))[..., :3]
    np.testing.assert_array_equal(part, expected)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(REAL.glob("aperio_cmu1*.svs")))
def test_openslide_and_tifffile_agree(path: Path) -> None:
    image = open_slide(path, None)
    with tifffile.TiffFile(path) as file:
        expected = file.pages.first.asarray()
    difference = np.abs(whole(image).astype(int) - expected)
    assert difference.max() <= 8  # two decoders of JPEG
    assert difference.mean() < 0.5
