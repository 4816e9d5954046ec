from importlib import util
from pathlib import Path
from types import ModuleType

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uhrseg.samples import data_dir
from napari_uhrseg.samples.paint import Painter
from napari_uhrseg.samples.world import CLASSES, World, WorldLevel, virtual_levels

IDS = {c.id for c in CLASSES}


@pytest.mark.slow
def test_same_seed_same_world() -> None:
    first, second = (Painter(5).tile(10, 20, 120, 90, 1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    other = Painter(6).tile(10, 20, 120, 90, 1)
    assert (first[0] != other[0]).any()
    small, large = (World(5, n).render(10, 20, 120, 90) for n in ((300, 400), (999, 9)))
    for a, b in zip(small, large, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@settings(max_examples=6)
@given(
    y=st.integers(-600, 600),
    x=st.integers(-600, 600),
    dy=st.integers(0, 80),
    dx=st.integers(0, 80),
    downsample=st.sampled_from([1, 2, 8, 128]),
)
def test_overlapping_regions_agree(
    y: int, x: int, dy: int, dx: int, downsample: int
) -> None:
    scene = World(9, (2000, 2000))
    rgb, labels = scene.render(y, x, 100, 120, downsample)
    again, labels_again = scene.render(y + dy, x + dx, 100, 120, downsample)
    np.testing.assert_array_equal(rgb[dy:, dx:], again[: 100 - dy, : 120 - dx])
    np.testing.assert_array_equal(
        labels[dy:, dx:], labels_again[: 100 - dy, : 120 - dx]
    )


def test_tiles_meet_without_seams() -> None:
    """Two tiles, and what one painter makes of the ground under both, are the same."""
    _, labels = World(9, (1024, 1024)).render(0, 0, 512, 1024)
    _, whole = Painter(9).tile(0, 0, 512, 1024, 1)
    assert (labels == whole).mean() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("downsample", [1, 4, 64])
def test_every_pixel_has_a_class(downsample: int) -> None:
    rgb, labels = World(3, (700, 700)).render(0, 0, 256, 256, downsample)
    assert rgb.dtype == labels.dtype == np.uint8
    assert rgb.shape == (256, 256, 3)
    assert set(np.unique(labels)) <= IDS


@pytest.mark.slow
def test_levels_show_the_same_ground() -> None:
    fine, _ = World(4, (1024, 1024)).render(0, 0, 1024, 1024)
    coarse, _ = World(4, (1024, 1024)).render(0, 0, 128, 128, 8)
    mean = fine.reshape(128, 8, 128, 8, 3).mean((1, 3))
    assert np.abs(mean - coarse).mean() < 12
    assert np.abs(mean.mean((0, 1)) - coarse.mean((0, 1))).max() < 4


def test_bad_requests_are_refused() -> None:
    scene = World(1, (100, 100))
    with pytest.raises(ValueError, match="power of two"):
        scene.render(0, 0, 10, 10, downsample=3)
    with pytest.raises(ValueError, match="cannot be"):
        scene.render(0, 0, -1, 10)
    with pytest.raises(ValueError, match="at least 1"):
        virtual_levels(1, 0)


class Watched(World):
    """World that records the regions that are computed."""

    def __init__(self, seed: int, shape: tuple[int, int]) -> None:
        super().__init__(seed, shape)
        self.computed: list[tuple[int, ...]] = []

    def render(
        self, y: int, x: int, height: int, width: int, downsample: int = 1
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        if height and width:
            self.computed.append((y, x, height, width, downsample))
        shape = (height, width)
        return np.zeros((*shape, 3), np.uint8), np.ones(shape, np.uint8)


def test_virtual_world_computes_only_what_is_read() -> None:
    levels = virtual_levels(2)
    assert levels[0].shape == (100_000, 100_000, 3)
    assert max(levels[-1].shape[:2]) <= 1024
    world = Watched(2, (100_000, 100_000))
    fine, coarse = WorldLevel(world, 1), WorldLevel(world, 128)
    lazy = [da.from_array(level, chunks=level.chunks) for level in (fine, coarse)]
    assert not world.computed
    assert lazy[0][51_200:51_300, 99_990:].compute().shape == (100, 10, 3)
    assert world.computed == [(51_200, 99_990, 100, 10, 1)]
    world.computed.clear()
    assert lazy[-1].compute().shape == coarse.shape
    assert len(world.computed) == 4


@pytest.mark.slow
def test_level_is_indexed_like_an_array() -> None:
    level = WorldLevel(World(7, (90, 70)), 1)
    whole = level[...]
    np.testing.assert_array_equal(whole, np.asarray(level))
    for index in (
        3,
        (slice(10, 20), -1),
        (slice(None), slice(5, 50), 1),
        (..., 2),
        (slice(None, None, 7), slice(60, 3, -9)),
        (slice(20, 10), slice(0, 4)),
    ):
        np.testing.assert_array_equal(level[index], whole[index])
    with pytest.raises(IndexError):
        level[90]
    with pytest.raises(IndexError):
        level[0, 0, 0, 0]


def _script() -> ModuleType:
    path = Path(__file__).parents[2] / "sample_data" / "make_samples.py"
    spec = util.spec_from_file_location("make_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sample_scene_is_a_georeferenced_cog() -> None:
    with rasterio.open(data_dir() / "scene.tif") as file:
        assert file.shape == (4096, 4096)
        assert file.crs.to_epsg() == 32632
        assert file.res == (0.5, 0.5)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.block_shapes[0] == (512, 512)
        assert file.overviews(1) == [2, 4, 8]
        with rasterio.open(data_dir() / "scene_labels.tif") as labels:
            assert labels.crs == file.crs
            assert labels.transform == file.transform
            assert labels.nodata == 0
            assert labels.colormap(1)[3] == (*CLASSES.classes[2].rgb, 255)
            assert set(np.unique(labels.read(1))) == IDS


@pytest.mark.slow
def test_sample_scene_is_what_the_script_makes() -> None:
    seed = _script().SAMPLE_SEED
    rgb, labels = World(seed, (4096, 4096)).render(1024, 512, 300, 300)
    with rasterio.open(data_dir() / "scene_labels.tif") as file:
        stored = file.read(1)[1024:1324, 512:812]
    # Another processor may round a pixel at an edge differently.
    assert (stored == labels).mean() > 0.999
    with rasterio.open(data_dir() / "scene.tif") as file:
        pixels = file.read()[:, 1024:1324, 512:812].transpose(1, 2, 0)
    assert np.abs(pixels.astype(int) - rgb).mean() < 8


@pytest.mark.slow
def test_training_scenes(tmp_path: Path) -> None:
    script = _script()
    script.make_scenes(tmp_path, [11, 12], 600)
    for seed in (11, 12):
        _, labels = World(seed, (600, 600)).render(0, 0, 600, 600)
        with rasterio.open(tmp_path / "masks" / f"{seed}.tif") as file:
            np.testing.assert_array_equal(file.read(1), labels)
        with rasterio.open(tmp_path / "images" / f"{seed}.tif") as file:
            assert file.count == 3
    names = (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert names[2] == "3 lake #1565c0"
    assert len(names) == len(CLASSES)
    with pytest.raises(SystemExit, match="reserved for the sample scene"):
        script.make_scenes(tmp_path, [script.SAMPLE_SEED], 600)


@pytest.mark.slow
def test_pairs_look_the_same() -> None:
    """Mean and spread of colours tell nothing about which of a pair it is."""
    scene = World(31, (8192, 4096))
    seen: dict[int, list[npt.NDArray[np.uint8]]] = {i: [] for i in IDS}
    rgb, labels = scene.render(0, 0, 1024, 1024, 4)
    for i in (3, 4, 8, 9):
        seen[i].append(rgb[labels == i])
    for a, b in ((3, 4), (8, 9)):
        one, two = np.concatenate(seen[a]), np.concatenate(seen[b])
        assert min(len(one), len(two)) > 1000
        assert np.abs(one.mean(0) - two.mean(0)).max() < 0.5 * one.std(0).max()
