"""Masks in files: values, colour tables, colours, nodata, and pairs of files."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Picture

from napari_uhrseg.engine.data.class_coverage import check_classes
from napari_uhrseg.engine.data.folder_dataset import FolderDataset
from napari_uhrseg.engine.data.mask_legend import read_classes
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.types import LabelClass, Legend, Roi

SIDE = 12
VOID, WHITE = (224, 224, 192), (255, 255, 255)


@pytest.fixture
def folders(tmp_path):
    """Return a function that writes masks and images, and their two folders."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()

    def write(*named) -> tuple[Path, Path]:
        for name, picture in named:
            Picture.new("RGB", (SIDE, SIDE)).save(images / f"{Path(name).stem}.png")
            if isinstance(picture, Picture.Image):
                picture.save(masks / name)
            else:
                picture(masks / name)
        return images, masks

    return write


def rows(*values: int) -> np.ndarray:
    """Return a mask with equal bands of rows of these values."""
    data = np.repeat(np.array(values), SIDE // len(values))
    return np.repeat(data[:, None], SIDE, 1).astype(np.uint8)


def gray(*values: int) -> Picture.Image:
    return Picture.fromarray(rows(*values))


def palette(*values: int, table: dict) -> Picture.Image:
    found = Picture.fromarray(rows(*values)).convert("P")
    found.putpalette([c for i in range(256) for c in table.get(i, (i, i, i))])
    found.frombytes(rows(*values).tobytes())
    return found


def geotiff(*values: int, nodata: int, table: dict | None = None):
    def write(path: Path) -> None:
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1}
        profile["transform"] = rasterio.Affine(2, 0, 100, 0, -2, 900)
        with rasterio.open(path, "w", dtype="uint8", nodata=nodata, **profile) as file:
            file.write(rows(*values)[None])
            if table:
                file.write_colormap(1, table)

    return write


def labels(source: FolderDataset) -> list[int]:
    """Return the class indices of the first column, without repetitions."""
    scene = (*source.training, *source.held_out)[0]
    column = scene.target.read(Roi(0, 0, SIDE, 1)).ravel().tolist()
    return [v for k, v in enumerate(column) if not k or column[k - 1] != v]


def values(source: FolderDataset) -> list[int | None]:
    return [c.source_value for c in source.legend]


# -- values ---------------------------------------------------------------------


def test_binary_masks_of_0_and_255_have_two_classes(folders):
    source = FolderDataset(*folders(("a.png", gray(0, 255))), held_out=0)
    assert values(source) == [0, 255]
    assert labels(source) == [0, 1]
    assert any("255 is a class" in text for text in source.warnings)


def test_255_is_ignored_beside_several_classes(folders):
    source = FolderDataset(*folders(("a.png", gray(0, 1, 255))), held_out=0)
    assert values(source) == [0, 1]
    assert labels(source) == [0, 1, 255]
    assert not source.warnings


@pytest.mark.parametrize("present", [(0,), (255,), (1, 255), (7,)])
def test_masks_of_one_class_are_refused(folders, present):
    with pytest.raises(TrainingError, match="fewer than two classes") as error:
        FolderDataset(*folders(("a.png", gray(*present))), held_out=0)
    assert error.value.hint


def test_ignored_255_leaves_one_class_in_binary_masks(folders):
    with pytest.raises(TrainingError, match="fewer than two classes"):
        FolderDataset(*folders(("a.png", gray(0, 255))), ignore=[255], held_out=0)


def test_training_scenes_of_one_class_are_refused(folders):
    legend = Legend(
        (LabelClass(1, "a", "#000000", 0), LabelClass(2, "b", "#ffffff", 1))
    )
    pair = folders(("a.png", gray(0)), ("b.png", gray(0, 1)))
    source = FolderDataset(*pair, legend, held_out=["b"])
    with pytest.raises(TrainingError, match=r"fewer than two classes \(a\)"):
        check_classes(source)


def test_class_that_is_only_in_validation_scenes_causes_a_warning(folders):
    pair = folders(("a.png", gray(0, 1)), ("b.png", gray(1, 2)))
    source = FolderDataset(*pair, held_out=["b"])
    (text,) = check_classes(source.with_class_balance(0.5))
    assert "'class 2' occurs only in validation scenes (b)" in text
    assert not check_classes(FolderDataset(*pair, held_out=0))


def test_class_without_pixels_causes_a_warning(folders, tmp_path):
    (tmp_path / "classes.txt").write_text("road\nsea\nice\n")
    legend = read_classes(tmp_path / "classes.txt")
    source = FolderDataset(*folders(("a.png", gray(0, 1))), legend, held_out=0)
    assert check_classes(source) == (
        "the class 'ice' occurs in no mask and cannot be learned",
    )


# -- colours and colour tables -----------------------------------------------------


def test_blue_is_a_class_in_masks_in_colour(folders):
    data = np.zeros((SIDE, SIDE, 3), np.uint8)
    data[6:] = (0, 0, 255)  # packed: 255
    source = FolderDataset(*folders(("a.png", Picture.fromarray(data))), held_out=0)
    assert [c.color for c in source.legend] == ["#000000", "#0000ff"]
    assert [c.name for c in source.legend] == ["class #000000", "class #0000ff"]
    assert labels(source) == [0, 1]


VOC = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 255: VOID}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_palette_masks_are_read_as_indices(folders, name):
    mask = palette(0, 1, 2, 255, table=VOC)
    source = FolderDataset(*folders((name, mask)), held_out=0)
    assert values(source) == [0, 1, 2]
    assert [c.color for c in source.legend] == ["#000000", "#800000", "#008000"]
    assert labels(source) == [0, 1, 2, 255]


def test_equal_colours_of_a_palette_are_different_classes(folders):
    mask = palette(0, 1, 2, table={1: WHITE, 2: WHITE})
    source = FolderDataset(*folders(("a.png", mask)), held_out=0)
    assert labels(source) == [0, 1, 2]


def test_palettes_that_contradict_each_other_are_refused(folders, tmp_path):
    one, two = (palette(0, 1, table={1: c}) for c in ((255, 0, 0), (0, 255, 0)))
    pair = folders(("a.png", one), ("b.png", two))
    with pytest.raises(TrainingError, match="Value 1 has different colours"):
        FolderDataset(*pair, held_out=0)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    legend = read_classes(tmp_path / "classes.txt")
    assert labels(FolderDataset(*pair, legend, held_out=0)) == [0, 1]


def test_palette_masks_are_read_as_colours_for_classes_in_colour(folders, tmp_path):
    (tmp_path / "classes.txt").write_text("#800000 roof\n#000000 ground\n")
    legend = read_classes(tmp_path / "classes.txt")
    mask = palette(0, 1, table=VOC)
    source = FolderDataset(*folders(("a.png", mask)), legend, held_out=0)
    assert labels(source) == [1, 0]


# -- nodata -----------------------------------------------------------------------


@pytest.mark.parametrize("table", [None, VOC])
def test_nodata_is_a_class_if_the_classes_list_it(folders, tmp_path, table):
    pair = folders(("a.tif", geotiff(0, 1, 2, nodata=0, table=table)))
    source = FolderDataset(*pair, held_out=0)
    assert values(source) == [1, 2]
    assert labels(source) == [255, 0, 1]
    (text,) = source.warnings
    assert "33.3% of the mask pixels are marked as missing" in text
    assert "nodata 0" in text
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    listed = FolderDataset(*pair, read_classes(tmp_path / "classes.txt"), held_out=0)
    assert labels(listed) == [0, 1, 2]
    assert not listed.warnings
    assert listed.pixel_counts == {"a": (48, 48, 48)}


# -- files ------------------------------------------------------------------------


def test_other_files_beside_images_are_left_out(folders):
    images, masks = folders(("a.png", gray(0, 1)))
    for name in ("a.xml", "a.txt", "a.png.aux.xml", ".hidden.png"):
        (images / name).write_text("no image")
        (masks / name).write_text("no mask")
    source = FolderDataset(images, masks, held_out=0)
    assert [s.name for s in source.training] == ["a"]
    assert not source.warnings


def test_two_images_of_one_stem_are_refused(folders):
    images, masks = folders(("a.png", gray(0, 1)))
    tifffile.imwrite(images / "a.tif", rows(0, 1))
    with pytest.raises(TrainingError, match=r"a\.png and a\.tif in .* the same stem"):
        FolderDataset(images, masks)


def test_files_without_a_partner_are_counted(folders):
    images, masks = folders(("a.png", gray(0, 1)))
    for name in ("b", "c"):
        gray(0, 1).save(images / f"{name}.png")
    gray(0, 1).save(masks / "d.png")
    assert FolderDataset(images, masks, held_out=0).warnings == (
        "left out because of a missing mask: 2 images (b, c)",
        "left out because of a missing image: 1 mask (d)",
    )


# -- files of classes -----------------------------------------------------------------


def test_classes_file_may_start_with_a_byte_order_mark(tmp_path):
    (tmp_path / "c.txt").write_bytes("road\nsea\n".encode("utf-8-sig"))
    assert [c.name for c in read_classes(tmp_path / "c.txt")] == ["road", "sea"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a\n0 b\n1 c\n", "'a' and 'b' have the same mask value 0"),
        ("1 a\nb\n", "'a' and 'b' have the same mask value 1"),
        ("#0000ff a\n255 b\n", "same mask value 255"),
        ("".join(f"{i} c{i}\n" for i in range(300)), "has 300 classes"),
        ("a\na\n", "twice"),
    ],
)
def test_classes_file_with_contradictions_is_refused(tmp_path, text, message):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(TrainingError, match=message) as error:
        read_classes(tmp_path / "c.txt")
    assert error.value.hint
