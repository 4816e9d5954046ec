"""OME-Zarr as it is in the world: made here with zarr itself, and real files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from helpers.label_stores import LEGEND, RUN
from napari_uhrseg.errors import OpenError, ReadError, StoreError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.pyramid_builder import fill_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

REAL = Path(__file__).parents[3] / "../shared/data/files"
FULL = np.arange(3 * 100 * 80, dtype=np.uint16).reshape(3, 100, 80)
AXES = [
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def write(
    path: Path,
    data: np.ndarray = FULL,
    *,
    zarr_format: int = 3,
    axes: list | None = AXES,
    scale: float = 0.5,
    sub: str = "",
    **extra: object,
) -> Path:
    """A two-level image of version 0.5, or 0.4 where ``zarr_format`` is 2."""
    group = zarr.open_group(path, mode="a", zarr_format=zarr_format, path=sub)
    levels = {"0": data, "1": data[..., ::2, ::2]}
    for name, level in levels.items():
        group.create_array(
            name, data=level, chunks=(*[1] * (level.ndim - 2), 32, 32), fill_value=0
        )
    datasets = [
        {
            "path": name,
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0] * (data.ndim - 2) + [scale * f] * 2}
            ],
        }
        for name, f in (("0", 1), ("1", 2))
    ]
    meta: dict = {"multiscales": [{"datasets": datasets}], **extra}
    if axes is not None:
        meta["multiscales"][0]["axes"] = axes
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", **meta}
    else:
        group.attrs.update(meta)
    return path


def whole(image: Image) -> np.ndarray:
    return image.read(Roi(0, 0, *image.shape)).data


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["a.zarr", "a.ome.zarr", "folder"])
def test_both_versions(tmp_path: Path, zarr_format: int, name: str) -> None:
    image = open_image(write(tmp_path / name, zarr_format=zarr_format))
    assert image.shape == (100, 80)
    assert image.pixel_size == (0.5, 0.5)
    assert image.unit == "micrometer"
    assert image.downsamples == (1.0, 2.0)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(whole(image), FULL.transpose(1, 2, 0))
    half = image.read(Roi(0, 0, 100, 80), (50, 40)).data
    np.testing.assert_array_equal(half, FULL[:, ::2, ::2].transpose(1, 2, 0))


def test_channels_are_named_and_bounded(tmp_path: Path) -> None:
    channels = [
        {"label": "DAPI", "window": {"start": 10, "end": 900, "min": 0, "max": 65535}},
        {"label": 7, "color": "00FF00"},
        {"label": "bad", "window": {"start": 9, "end": 1}},
    ]
    image = open_image(write(tmp_path / "a.zarr", omero={"channels": channels}))
    assert [b.name for b in image.bands] == ["DAPI", "7", "bad"]
    assert [b.range for b in image.bands] == [(10.0, 900.0), None, None]
    assert not image.rgb


def test_eight_bit_red_green_blue_is_a_colour_image(tmp_path: Path) -> None:
    channels = [{"color": c} for c in ("FF0000", "00FF00", "0000FF")]
    data = FULL.astype(np.uint8)
    image = open_image(write(tmp_path / "a.zarr", data, omero={"channels": channels}))
    assert image.rgb
    assert image.levels[0].shape == (100, 80, 3)
    shown = np.asarray(image.levels[0][:5, :6])
    np.testing.assert_array_equal(shown, data.transpose(1, 2, 0)[:5, :6])


@pytest.mark.parametrize(
    ("unit", "size", "name"),
    [
        ("nanometer", 5e-4, "micrometer"),
        ("millimeter", 500.0, "micrometer"),
        ("meter", 0.5, "metre"),
        ("parsec", 0.5 * 3.0856775814913673e16, "metre"),
        ("picometer", 5e-7, "micrometer"),
        ("Micrometer", 0.5, "micrometer"),
        ("micrometre", 0.5, "micrometer"),
        ("microns", 0.5, "micrometer"),
        ("inch", 12_700.0, "micrometer"),
        ("Feet", 0.1524, "metre"),
    ],
)
def test_units(tmp_path: Path, unit: str, size: float, name: str) -> None:
    axes = [AXES[0], *({**a, "unit": unit} for a in AXES[1:])]
    image = open_image(write(tmp_path / "a.zarr", axes=axes))
    assert image.pixel_size == pytest.approx((size, size))
    assert image.unit == name


def test_planes_of_time_and_depth_are_chosen(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 40 * 50, dtype=np.int32).reshape(2, 3, 4, 40, 50)
    axes = [{"name": "t", "type": "time"}, AXES[0], {"name": "z", "type": "space"}]
    path = write(
        tmp_path / "a.zarr",
        data,
        axes=[*axes, *AXES[1:]],
        omero={"channels": [{}] * 3, "rdefs": {"defaultT": 1, "defaultZ": 3}},
    )
    image = open_image(path)
    assert image.planes == {"t": 2, "z": 4}
    assert image.plane == {"t": 1, "z": 3}
    np.testing.assert_array_equal(whole(image), data[1, :, 3].transpose(1, 2, 0))
    other = image.with_plane(t=0, z=1)
    np.testing.assert_array_equal(whole(other), data[0, :, 1].transpose(1, 2, 0))


def test_versions_before_axes_were_stated(tmp_path: Path) -> None:
    data = FULL[None, :, None]
    image = open_image(write(tmp_path / "a.zarr", data, zarr_format=2, axes=None))
    assert image.source_axes == "tczyx"
    np.testing.assert_array_equal(whole(image), FULL.transpose(1, 2, 0))


@pytest.mark.parametrize("axis", [0, 1])
def test_levels_that_shrink_along_one_axis_are_read_in_place(
    tmp_path: Path, axis: int
) -> None:
    path, size = tmp_path / "a.zarr", [1001, 1001]
    size[axis] = 4003
    coarse = np.random.default_rng(0).integers(0, 255, [-(-n // 8) for n in size])
    data = coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    group = zarr.open_group(path, mode="w")
    datasets = []
    for name, step in (("0", 1), ("1", 2), ("2", 4)):
        steps = [step if i == axis else 1 for i in (0, 1)]
        group.create_array(name, data=data[:: steps[0], :: steps[1]], chunks=(256, 256))
        scale = {"type": "scale", "scale": [float(n) for n in steps]}
        datasets.append({"path": name, "coordinateTransformations": [scale]})
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": AXES[1:], "datasets": datasets}],
    }
    image = open_image(path)
    roi = Roi(200, 320, 400, 480)
    part = image.read(roi, (100, 120)).data[..., 0]
    np.testing.assert_array_equal(part, data[roi.slices][::4, ::4])
    steps = (1, 2) if axis else (2, 1)
    part = image.read(roi, (400 // steps[0], 480 // steps[1])).data[..., 0]
    np.testing.assert_array_equal(part, data[roi.slices][:: steps[0], :: steps[1]])


def test_labels_are_mentioned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr")
    group = zarr.open_group(path, mode="a")
    group.create_group("labels").attrs["ome"] = {"labels": ["cells", "glands"]}
    assert any("cells, glands" in w for w in open_image(path).warnings)


@pytest.mark.parametrize("listed", [True, False])
def test_collection_of_several_series(tmp_path: Path, listed: bool) -> None:
    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w")
    root.attrs["ome"] = {"bioformats2raw.layout": 3}
    for number in range(3):
        write(path, FULL + number, sub=str(number))
    if listed:
        root.create_group("OME").attrs["ome"] = {"series": ["0", "1", "2"]}
    image = open_image(path)
    assert image.series == ("0", "1", "2")
    assert "3 images; 0 is shown" in image.warnings[0]
    np.testing.assert_array_equal(whole(image), FULL.transpose(1, 2, 0))
    second = open_image(path, series=2)
    assert not second.warnings
    np.testing.assert_array_equal(whole(second), FULL.transpose(1, 2, 0) + 2)
    with pytest.raises(OpenError, match="no image number 3"):
        open_image(path, series=3)


def test_plate(tmp_path: Path) -> None:
    path = tmp_path / "plate.zarr"
    root = zarr.open_group(path, mode="w")
    wells = [{"path": "A/1"}, {"path": "B/2"}]
    root.attrs["ome"] = {"plate": {"wells": wells}}
    for number, well in enumerate(wells):
        for field in range(2):
            write(path, FULL + 10 * number + field, sub=f"{well['path']}/{field}")
        group = zarr.open_group(path, mode="a", path=well["path"])
        group.attrs["ome"] = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}
    image = open_image(path)
    assert "4 fields; A/1/0 is shown" in image.warnings[0]
    assert image.series == ("A/1/0", "A/1/1", "B/2/0", "B/2/1")
    assert whole(image)[0, 0, 0] == 0
    last = open_image(path, series=3)
    assert whole(last)[0, 0, 0] == 11
    assert last.series[last.series_number] == "B/2/1"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_array(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "a.zarr"
    data = FULL.transpose(1, 2, 0).astype(np.uint8)
    zarr.save_array(path, data, zarr_format=zarr_format)
    image = open_image(path)
    assert image.rgb
    np.testing.assert_array_equal(whole(image), data)
    assert "bare zarr array" in image.warnings[0]


def test_missing_coarse_level_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr")
    shutil.rmtree(path / "1")
    image = open_image(path)
    assert image.downsamples == (1.0,)
    assert "Level 1" in image.warnings[0]


def spoil(path: Path, how: str) -> None:
    meta = json.loads((path / "zarr.json").read_text())
    ome = meta["attributes"]["ome"]
    scale = ome["multiscales"][0]
    if how == "no full level":
        shutil.rmtree(path / "0")
    elif how == "cut metadata":
        (path / "zarr.json").write_text((path / "zarr.json").read_text()[:-40])
        return
    elif how == "no multiscales":
        del ome["multiscales"]
    elif how == "empty multiscales":
        ome["multiscales"] = []
    elif how == "no datasets":
        scale["datasets"] = []
    elif how == "too few axes":
        scale["axes"] = AXES[1:]
    elif how == "no x":
        scale["axes"] = [*AXES[:2], {"name": "q"}]
    elif how == "levels swapped":
        scale["datasets"].reverse()
    elif how == "unknown codec":
        about = json.loads((path / "0/zarr.json").read_text())
        about["codecs"] = [{"name": "jpegxs-of-mars", "configuration": {}}]
        (path / "0/zarr.json").write_text(json.dumps(about))
    (path / "zarr.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "how",
    [
        "no full level",
        "cut metadata",
        "no multiscales",
        "empty multiscales",
        "no datasets",
        "too few axes",
        "no x",
        "levels swapped",
        "unknown codec",
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "a.zarr")
    spoil(path, how)
    with pytest.raises(OpenError) as caught:
        open_image(path)
    assert caught.value.hint
    assert "a.zarr" in caught.value.message


def test_empty_folder_named_zarr(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(OpenError) as caught:
        open_image(tmp_path / "a.zarr")
    assert caught.value.hint


def test_damaged_chunk_is_an_error_not_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr")
    (path / "0/c/1/0/0").write_bytes(b"nonsense")
    image = open_image(path)
    with pytest.raises(ReadError):
        image.read(Roi(0, 0, 10, 10))
    assert image.read(Roi(40, 40, 10, 10)).valid.all()


@pytest.mark.parametrize("path", sorted(REAL.glob("*.zarr")), ids=lambda p: p.name)
def test_real_files(path: Path) -> None:
    image = open_image(path)
    assert image.source_axes == "cyx"
    raw = zarr.open_array(path / "0", mode="r")[:]
    np.testing.assert_array_equal(whole(image), np.asarray(raw).transpose(1, 2, 0))
    assert [b.name for b in image.bands] == ["0", "1", "2"]


def scene(path: Path, value: int, *, chunks: int = 512, shards: int | None = None):
    """Nothing at the borders, and a square of one value in the middle."""
    array = zarr.create_array(
        path, shape=(5000, 5000), chunks=(chunks,) * 2, dtype="u1", fill_value=0,
        shards=None if shards is None else (shards,) * 2,
    )  # fmt: skip
    array[1000:4000, 1000:4000] = value
    return path


@pytest.mark.slow
def test_overviews_are_not_those_of_an_image_with_equal_borders(tmp_path: Path) -> None:
    for value in (50, 200):
        image = open_image(scene(tmp_path / f"{value}.zarr", value))
        list(fill_levels(image, tmp_path / "cache"))
        coarsest = np.asarray(image.levels[-1])
        assert coarsest.max() == value


@pytest.mark.slow
def test_overviews_are_made_anew_of_what_was_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for value in (50, 200):  # in one chunk of many: too little to tell them apart
        array = zarr.create_array(
            path, shape=(5000, 5000), chunks=(250, 250), dtype="u1", fill_value=0,
            overwrite=True,
        )  # fmt: skip
        array[260:490, 260:490] = value
        image = open_image(path)
        list(fill_levels(image, tmp_path / "cache"))
        assert np.asarray(image.levels[-1]).max() == value


@pytest.mark.parametrize(
    "layout", [{"chunks": 512}, {"chunks": 2500}, {"chunks": 250, "shards": 2500}]
)
def test_labels_of_an_image_are_not_those_of_one_like_it(
    tmp_path: Path, layout: dict[str, int]
) -> None:
    path = scene(tmp_path / "50.zarr", 50, **layout)
    other = open_image(scene(tmp_path / "200.zarr", 200, **layout))
    copy = open_image(shutil.copytree(path, tmp_path / "copy.zarr"))
    with LabelStore.create(None, open_image(path), LEGEND) as store:
        store.run_ledger.start_run(replace(RUN, image_fingerprint=copy.fingerprint))
        with pytest.raises(StoreError, match="other contents"):
            store.run_ledger.start_run(
                replace(RUN, image_fingerprint=other.fingerprint)
            )


def test_what_is_far_from_the_borders_tells_images_of_many_chunks_apart(
    tmp_path: Path,
) -> None:
    found = set()
    for value in (50, 200):
        array = zarr.create_array(
            tmp_path / f"{value}.zarr", shape=(4, 960, 960), chunks=(1, 32, 32),
            dtype="u1", fill_value=0,
        )  # fmt: skip
        array[2, 450:510, 450:510] = value
        found.add(open_image(tmp_path / f"{value}.zarr").fingerprint)
    assert len(found) == 2


def edit(path: Path, change) -> Path:
    """Change the metadata of a multiscale of version 0.5."""
    group = zarr.open_group(path, mode="a")
    ome = dict(group.attrs["ome"])
    change(ome["multiscales"][0])
    group.attrs["ome"] = ome
    return path


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ([0.5, 0.5], "not 3 numbers"),
        (["1", "0.5", "0.5"], "not 3 numbers"),
        ([1, [0.5], 0.5], "not 3 numbers"),
        (None, "has no scale"),
    ],
)
def test_pixel_size_of_a_wrong_scale_is_unknown(tmp_path: Path, scale, words) -> None:
    def change(meta: dict) -> None:
        steps = [] if scale is None else [{"type": "scale", "scale": scale}]
        meta["datasets"][0]["coordinateTransformations"] = steps

    image = open_image(edit(write(tmp_path / "a.zarr"), change))
    assert (image.pixel_size, image.unit) == (None, "pixel")
    assert words in image.warnings[0]


@pytest.mark.parametrize("units", [("furlong", "furlong"), ("micrometer", "")])
def test_pixel_size_of_an_unknown_unit_is_unknown(tmp_path: Path, units) -> None:
    named = [{**a, "unit": u} for a, u in zip(AXES[1:], units, strict=True)]
    image = open_image(write(tmp_path / "a.zarr", axes=[AXES[0], *named]))
    assert image.pixel_size is None
    assert units[0] in image.warnings[0]


def test_units_of_the_two_axes_may_differ(tmp_path: Path) -> None:
    named = [{**a, "unit": u} for a, u in zip(AXES[1:], ("mm", "m"), strict=True)]
    image = open_image(write(tmp_path / "a.zarr", axes=[AXES[0], *named]))
    assert image.pixel_size == (500.0, 500_000.0)
    assert image.unit == "micrometer"


@pytest.mark.parametrize("level", [FULL[1:, ::2, ::2], FULL[:, ::2, ::2].astype("i4")])
def test_levels_that_do_not_fit_are_left_out(tmp_path: Path, level) -> None:
    path = write(tmp_path / "a.zarr")
    group = zarr.open_group(path, mode="a")
    group.create_array("1", data=level, chunks=(1, 32, 32), overwrite=True)
    image = open_image(path)
    assert image.downsamples == (1,)
    assert "Level 1 of a.zarr is left out" in image.warnings[0]
    np.testing.assert_array_equal(whole(image), FULL.transpose(1, 2, 0))


def test_paths_of_levels_may_begin_with_a_dot(tmp_path: Path) -> None:
    def change(meta: dict) -> None:
        meta["datasets"][0]["path"] = "./0"

    image = open_image(edit(write(tmp_path / "a.zarr"), change))
    np.testing.assert_array_equal(whole(image), FULL.transpose(1, 2, 0))


def test_nested_chunks_without_a_separator_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(
        path, data=FULL[0], chunks=(32, 32), zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    assert len(open_image(path).warnings) == 1
    meta = json.loads((path / ".zarray").read_text())
    del meta["dimension_separator"]
    (path / ".zarray").write_text(json.dumps(meta))
    image = open_image(path)
    np.testing.assert_array_equal(whole(image)[..., 0], FULL[0])
    assert "1 of 1 levels are in folders" in image.warnings[1]
    for chunk in path.glob("*/*"):
        chunk.unlink()
    assert "No chunk of a.zarr was found" in open_image(path).warnings[1]


def test_coarser_level_without_chunks_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr")
    shutil.rmtree(path / "1" / "c")
    image = open_image(path)
    assert image.downsamples == (1,)
    assert "Level 1 is left out: no chunk of it was found" in image.warnings[0]


@pytest.mark.parametrize(("axis", "size"), [(0, 2**64), (0, 10_001), (1, 2**31)])
def test_more_bands_or_pixels_than_can_exist_are_refused(
    tmp_path: Path, axis: int, size: int
) -> None:
    write(tmp_path / "a.zarr")
    for level in ("0", "1"):
        header = tmp_path / "a.zarr" / level / "zarr.json"
        content = json.loads(header.read_text())
        content["shape"][axis] = size
        header.write_text(json.dumps(content))
    with pytest.raises(OpenError, match=f"size of {size:,} along axis {'cyx'[axis]}"):
        open_image(tmp_path / "a.zarr")
