"""Scenes, folders of scenes, and batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from helpers.scenes import LEGEND, SPEC, ArrayTarget, scene
from napari_uhrseg.engine.data.augmentation import (
    Rotation,
)
from napari_uhrseg.engine.data.batches import batches
from napari_uhrseg.engine.data.decoded_image import DecodedImage, decode_images
from napari_uhrseg.engine.data.folder_dataset import FolderDataset
from napari_uhrseg.engine.data.mask_legend import read_classes
from napari_uhrseg.engine.data.scenes import Scene, SceneDataset
from napari_uhrseg.errors import PlanError, TrainingError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.types import Roi, View


def test_surrounding_view_lies_off_centre_with_its_labels():
    spec = replace(
        SPEC,
        views={"local": View(32), "surrounding": View(64, off_centre=True)},
        padding="zero",
    )
    source = SceneDataset(LEGEND, (scene(),)).fitted(spec)
    corners = set()
    for batch in batches(source, spec, 4, 0, range(8), (Rotation,)):
        for sample in range(4):
            y, x = (int(v) for v in batch.boxes["surrounding"][sample, :2])
            inside = (slice(y, y + 32), slice(x, x + 32))
            around = batch.views["surrounding"][sample]
            assert torch.equal(around[:, *inside], batch.views["local"][sample])
            labels = batch.surrounding_target[sample]
            assert torch.equal(labels[inside], batch.target[sample])
            known = labels != 255
            classes = (around[0] * 255 / 60).round().long()
            assert torch.equal(classes[known], labels[known])
            assert not around[:, ~known].any()  # beyond the scene
            corners.add((y, x))
    assert len(corners) > 20
    assert all(0 <= v <= 32 for corner in corners for v in corner)


def test_batches_depend_on_seed_and_step_alone():
    source = SceneDataset(LEGEND, (scene(0), scene(1, (64, 300)))).fitted(SPEC)
    whole = list(batches(source, SPEC, 3, 7, range(4)))
    later = list(batches(source, SPEC, 3, 7, range(2, 4)))
    for a, b in zip(whole[2:], later, strict=True):
        assert torch.equal(a.target, b.target)
        assert all(torch.equal(a.views[k], b.views[k]) for k in a.views)
    other = next(batches(source, SPEC, 3, 8, range(1)))
    assert not torch.equal(other.views["local"], whole[0].views["local"])
    assert whole[0].target.shape == (3, 32, 32)
    assert whole[0].target.dtype == torch.int64


def test_scenes_smaller_than_a_window_are_padded_with_ignored_pixels():
    source = SceneDataset(LEGEND, (scene(0, (20, 25)),)).fitted(SPEC)
    batch = next(batches(source, SPEC, 2, 0, range(1)))
    known = (batch.target != 255).sum(dim=(1, 2))
    assert known.tolist() == [500, 500]


def test_labels_of_a_scaled_scene_match_its_view():
    spec = replace(SPEC, views={"local": View(32, 32)}, pixel_size=2.0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (40, 40)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    image = image_from_array(
        np.repeat(labels[..., None] * 60, 3, -1),
        name="fine",
        rgb=True,
        pixel_size=(1.0, 1.0),
        unit="metre",
    )
    fine = Scene("fine", image, ArrayTarget(labels)).fitted(spec)
    assert (fine.scale, fine.shape) == (2.0, (80, 80))
    window = Roi(8, 10, 32, 32)
    view = fine.inputs([window], spec).views["local"][0, 0]
    classes = (view * 255 / 60).round().numpy()
    assert np.array_equal(classes, fine.labels(window))


def test_decoded_image_reads_as_the_file_does():
    image = scene().image
    kept = decode_images([image, image], limit=60_000)
    assert isinstance(kept[0], DecodedImage)
    assert kept[1] is None
    for roi, size, bands in [
        (Roi(3, 4, 20, 30), None, None),
        (Roi(3, 4, 20, 30), (20, 30), [2, 0]),
        (Roi(3, 4, 20, 30), (10, 15), [0]),
        (Roi(-3, 4, 20, 30), None, [0, 1, 2]),
    ]:
        for a, b in zip(
            kept[0].read(roi, size, bands), image.read(roi, size, bands), strict=True
        ):
            assert np.array_equal(a, b)
    assert kept[0].shape == image.shape


def test_fitted_refuses_too_few_bands():
    with pytest.raises(PlanError, match="takes 4 bands and s0 has 3"):
        scene().fitted(replace(SPEC, channels=4, mean=(0,) * 4, std=(1,) * 4))


# -- folders --------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for i in range(5):
        rng = np.random.default_rng(i)
        data = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Picture.fromarray(data).save(images / f"s{i}.png")
        values = rng.choice(np.array([2, 5, 9, 255], np.uint8), (40, 50))
        Picture.fromarray(values).save(masks / f"s{i}.png")
    return images, masks


def test_folder_dataset_pairs_by_name_and_splits_by_scene(folders):
    images, masks = folders
    Picture.new("RGB", (9, 9)).save(images / "without_mask.png")
    source = FolderDataset(images, masks)
    assert [c.source_value for c in source.legend] == [2, 5, 9]
    assert len(source.training) == 4
    assert len(source.held_out) == 1
    names = {s.name for s in (*source.training, *source.held_out)}
    assert names == {f"s{i}" for i in range(5)}
    chosen = FolderDataset(images, masks, held_out=["s1", "s3"])
    assert [s.name for s in chosen.held_out] == ["s1", "s3"]
    assert not FolderDataset(images, masks, held_out=0).held_out


@pytest.mark.parametrize("cache", [1 << 30, 0])
def test_mask_values_become_class_indices(folders, cache):
    images, masks = folders
    source = FolderDataset(images, masks, held_out=["s0"], cache=cache)
    values = np.asarray(Picture.open(masks / "s0.png"))
    found = source.held_out[0].target.read(Roi(-2, -3, 50, 60))
    expected = np.full((50, 60), 255)
    for k, value in enumerate((2, 5, 9)):
        expected[2:42, 3:53][values == value] = k
    assert np.array_equal(found, expected)


def test_mask_values_can_be_ignored(folders):
    source = FolderDataset(*folders, ignore=(5, 255))
    assert [c.source_value for c in source.legend] == [2, 9]


def test_mask_value_255_is_a_class_if_the_legend_has_it(tmp_path):
    values = np.zeros((30, 30), np.uint8)
    values[10:] = 255
    Picture.fromarray(values).save(tmp_path / "mask.png")
    Picture.new("RGB", (30, 30)).save(tmp_path / "image.png")
    pair = tmp_path / "image.png", tmp_path / "mask.png"
    source = FolderDataset(*pair, LEGENDS["inria"], held_out=0)
    found = source.training[0].target.read(Roi(0, 0, 30, 1))
    assert found.ravel().tolist() == [0] * 10 + [1] * 20


def test_mask_colours_are_values(tmp_path):
    data = np.zeros((30, 30, 3), np.uint8)
    data[:10] = (255, 128, 0)
    data[20:] = (0, 255, 255)
    Picture.fromarray(data).save(tmp_path / "mask.png")
    Picture.fromarray(data).save(tmp_path / "image.png")
    pair = tmp_path / "image.png", tmp_path / "mask.png"
    source = FolderDataset(*pair, ignore=(0,))
    assert [c.color for c in source.legend] == ["#00ffff", "#ff8000"]
    found = source.training[0].target.read(Roi(0, 0, 30, 1))
    assert found.ravel().tolist() == [1] * 10 + [255] * 10 + [0] * 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("building\nbare land\n", [("building", 0), ("bare land", 1)]),
        ("3 road #ABCDEF\n7 sea\n", [("road", 3), ("sea", 7)]),
        ("#ff0000 roof\n", [("roof", 0xFF0000)]),
    ],
)
def test_read_classes(tmp_path, text, expected):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    legend = read_classes(path)
    assert [(c.name, c.source_value) for c in legend] == expected
    if "ABCDEF" in text:
        assert legend.classes[0].color == "#abcdef"
    if "ff0000" in text:
        assert legend.classes[0].color == "#ff0000"


def test_folder_dataset_refuses_unusable_folders(folders, tmp_path):
    images, masks = folders
    cases = [
        ({"images": tmp_path / "no"}, "There is no"),
        ({"masks": images.parent}, "has a mask of the same name"),
        ({"held_out": ["s9"]}, "no scene named 's9'"),
        ({"held_out": [f"s{i}" for i in range(5)]}, "no training scene"),
        ({"legend": LEGEND}, "values that no class has: 5, 9"),
        ({"ignore": (2, 5, 9, 255)}, "fewer than two classes"),
        ({"masks": images}, "different values"),
    ]
    for arguments, message in cases:
        with pytest.raises(TrainingError, match=message) as error:
            FolderDataset(**{"images": images, "masks": masks, **arguments})
        assert error.value.hint
    Picture.new("L", (9, 9)).save(masks / "s0.png")
    with pytest.raises(TrainingError, match="40 x 50 pixels and its mask 9 x 9"):
        FolderDataset(images, masks)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_classes(tmp_path / "none.txt")
    (tmp_path / "twice.txt").write_text("a\na\n")
    with pytest.raises(TrainingError, match="twice"):
        read_classes(tmp_path / "twice.txt")
