"""Cases after reports against ome-zarr, napari, networks and dask."""

import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from campaign.cases_images import COLOUR, GREY, pixels
from campaign.cases_vectors import labelled
from campaign.report import case
from helpers.label_stores import FakeImage
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.export import export
from napari_uhrseg.io.image.from_array import image_from_array, image_from_layer
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.importers import import_checkpoint

# -- ome-zarr -------------------------------------------------------------------------


def ngff(
    path: Path,
    data: np.ndarray,
    axes: str,
    change: dict[str, Any] | None = None,
    **options: Any,
) -> Image:
    """Write an OME-Zarr 0.4 image of one level and open it.

    Parameters
    ----------
    path
        Folder to create.
    data
        The pixels.
    axes
        One letter per axis.
    change
        Further entries of ``multiscales``.
    **options
        Options of the zarr array.
    """
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=data, **options)
    kinds = {"c": "channel", "t": "time"}
    named = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in named:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    scale = {"type": "scale", "scale": [0.5 if a in "yx" else 1.0 for a in axes]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    about = {"version": "0.4", "axes": named, "datasets": datasets, **(change or {})}
    group.attrs["multiscales"] = [about]
    return open_image(path)


@case("ome-zarr", "scale of the image and of the level", "their product")
def two_scales(folder: Path) -> None:
    extra = {"coordinateTransformations": [{"type": "scale", "scale": [2.0, 2.0]}]}
    image = ngff(folder / "a.zarr", GREY, "yx", extra)
    assert image.pixel_size == (1.0, 1.0)


@case("ome-zarr", "scale, then translation", "size right, translation harmless")
def translation(folder: Path) -> None:
    moves = [
        {"type": "scale", "scale": [0.25, 0.25]},
        {"type": "translation", "translation": [9.0, 9.0]},
    ]
    datasets = [{"path": "0", "coordinateTransformations": moves}]
    image = ngff(folder / "a.zarr", GREY, "yx", {"datasets": datasets})
    assert image.pixel_size == (0.25, 0.25)


@case("ome-zarr", "axes x before y", "not transposed without a word")
def swapped_axes(folder: Path) -> None:
    try:
        image = ngff(folder / "a.zarr", GREY.T.copy(), "xy")
    except UhrSegError:
        return
    assert image.shape == GREY.shape
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY)


@case("ome-zarr", "axes tczyx and cyx and zyx", "each plane right")
def axis_orders(folder: Path) -> None:
    base = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1, 1)
    data = base + np.zeros((1, 1, 1, 64, 64), np.uint8)
    image = ngff(folder / "a.zarr", data, "tczyx")
    assert pixels(image, t=1, z=2)[0, 0].tolist() == [8, 11]
    assert pixels(ngff(folder / "b.zarr", data[0, :, 0], "cyx"))[0, 0].tolist() == [
        0,
        3,
    ]
    third = ngff(folder / "c.zarr", data[0, 0], "zyx")
    assert pixels(third, z=1)[0, 0].tolist() == [1]


@case("ome-zarr", "missing chunk with fill value 255", "255, not 0")
def fill_value(folder: Path) -> None:
    path = folder / "a.zarr"
    ngff(path, np.zeros((64, 64), np.uint8) + 9, "yx", chunks=(32, 32), fill_value=255)
    (path / "0" / "1.1").unlink()
    found = pixels(open_image(path))[..., 0]
    assert (found[32:, 32:] == 255).all()
    assert (found[:32] == 9).all()


@case("ome-zarr", "big-endian and column-major arrays", "equal pixels")
def array_orders(folder: Path) -> None:
    data = GREY.astype(">u2") * 200
    np.testing.assert_array_equal(
        pixels(ngff(folder / "a.zarr", data, "yx"))[..., 0], data
    )
    image = ngff(folder / "b.zarr", GREY, "yx", order="F", chunks=(50, 40))
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY)


@case("ome-zarr", "sharded arrays of zarr 3", "equal pixels")
def sharded(folder: Path) -> None:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
    data = np.tile(GREY[:200, :300], (2, 2))
    array = group.create_array(
        "0", shape=data.shape, dtype="u1", chunks=(50, 50), shards=(200, 200)
    )
    array[:] = data
    axes = [{"name": a, "type": "space"} for a in "yx"]
    scale = {"type": "scale", "scale": [1.0, 1.0]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    about = {"axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [about]}
    image = open_image(folder / "a.zarr")
    np.testing.assert_array_equal(pixels(image)[..., 0], data)


@case("ome-zarr", "fewer channels described than stored", "all bands open")
def few_channels(folder: Path) -> None:
    path, data = folder / "a.zarr", COLOUR.transpose(2, 0, 1).copy()
    ngff(path, data, "cyx")
    group = zarr.open_group(path, mode="r+")
    group.attrs["omero"] = {"channels": [{"label": "one", "color": "FF0000"}]}
    assert pixels(open_image(path)).shape == (203, 301, 3)


@case("ome-zarr", "version 0.1 without axes, five dimensions", "opens")
def first_version(folder: Path) -> None:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=COLOUR.transpose(2, 0, 1)[None, :, None].copy())
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}]}]
    np.testing.assert_array_equal(pixels(open_image(folder / "a.zarr")), COLOUR)


@case("ome-zarr", "folder labels beside the levels", "the image opens")
def with_labels(folder: Path) -> None:
    path = folder / "a.zarr"
    ngff(path, GREY, "yx")
    ngff(path / "labels" / "cells", GREY * 0, "yx")
    zarr.open_group(path / "labels", mode="a", zarr_format=2).attrs["labels"] = [
        "cells"
    ]
    np.testing.assert_array_equal(pixels(open_image(path))[..., 0], GREY)


# -- napari ---------------------------------------------------------------------------


@case("napari", "layer with scale of z, y, x in millimetres", "size of y, x in µm")
def layer_scale(folder: Path) -> None:
    from napari.layers import Image as Layer

    layer = Layer(
        np.stack([GREY, GREY]), scale=(5, 0.002, 0.001), units=("mm", "mm", "mm")
    )
    image = image_from_layer(layer)
    assert image.pixel_size == pytest.approx((2.0, 1.0))
    assert image.unit == "micrometer"


@case("napari", "layer without units", "unknown size, not 1 µm")
def layer_units(folder: Path) -> None:
    from napari.layers import Image as Layer

    assert image_from_layer(Layer(GREY)).pixel_size is None


@case("napari", "multiscale RGB layer", "colour, two levels")
def layer_levels(folder: Path) -> None:
    from napari.layers import Image as Layer

    layer = Layer([COLOUR, COLOUR[::2, ::2]], multiscale=True, rgb=True)
    image = image_from_layer(layer)
    assert image.rgb
    np.testing.assert_array_equal(pixels(image), COLOUR)


@case("napari", "labels saved as TIFF", "pixel size, type and values kept")
def saved_labels(folder: Path) -> None:
    path = folder / "a.ome.tif"
    with labelled(FakeImage((100, 120), pixel_size=(0.5, 0.5))) as store:
        wanted = store.prediction[0][:]
        for _ in export(store, path, "ome-tiff"):
            pass
    image = open_image(path)
    assert image.pixel_size == (0.5, 0.5)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(pixels(image)[..., 0], wanted)


@case("napari", "boolean layer", "values 0 and 1")
def boolean_layer(folder: Path) -> None:
    found = pixels(image_from_array(GREY > 99, name="a"))
    np.testing.assert_array_equal(found[..., 0], GREY > 99)


# -- segmentation-models-pytorch ------------------------------------------------------

SMALL = {"encoder_name": "tu-test_efficientnet", "encoder_weights": None}


def saved(folder: Path, name: str, **options: Any) -> Path:
    """Save an untrained network by segmentation-models-pytorch; return its folder."""
    import segmentation_models_pytorch as smp

    model = getattr(smp, name)(**{**SMALL, "classes": 2, **options})
    model.save_pretrained(folder / "net")
    return folder / "net"


@case("smp", "saved Unet and FPN", "imported")
def architectures(folder: Path) -> None:
    for name in ("Unet", "FPN"):
        model, card = import_checkpoint(saved(folder / name, name), "plain")
        assert len(card.legend) == 2
        assert not model.training


@case("smp", "four input channels; one", "as many bands")
def input_channels(folder: Path) -> None:
    for count in (1, 4):
        path = saved(folder / str(count), "Unet", in_channels=count)
        assert import_checkpoint(path, "plain")[1].spec.channels == count


@case("smp", "one class with sigmoid", "two classes, or a refusal")
def one_class(folder: Path) -> None:
    try:
        path = saved(folder, "Unet", classes=1, activation="sigmoid")
        _, card = import_checkpoint(path, "plain")
    except UhrSegError:
        return
    assert len(card.legend) == 2


@case("smp", "configuration with unknown encoder, lists, null", "a sentence")
def odd_configurations(folder: Path) -> None:
    path = saved(folder, "Unet")
    config = json.loads((path / "config.json").read_text())
    for key, value in (
        ("encoder_name", "resnet9999"), ("encoder_depth", 99), ("in_channels", "x"),
        ("_model_class", "Missing"), ("classes", -1), ("decoder_channels", None),
        ("unknown", 1), ("classes", 10**9),
    ):  # fmt: skip
        (path / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UhrSegError):
            import_checkpoint(path, "plain")


@case("smp", "configuration of 10^9 channels, file of 100 KB", "refused below 1 GB")
def huge_configuration(folder: Path) -> None:
    path = saved(folder, "Unet")
    config = json.loads((path / "config.json").read_text())
    config["decoder_channels"] = [10**9] * 5
    (path / "config.json").write_text(json.dumps(config))
    limit = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limit[1]))
    try:
        with pytest.raises(UhrSegError):
            import_checkpoint(path, "plain")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


@case("smp", "auxiliary classification head", "imported without it, or refused")
def auxiliary_head(folder: Path) -> None:
    path = saved(folder, "Unet", aux_params={"classes": 4})
    try:
        model, _ = import_checkpoint(path, "plain")
    except UhrSegError:
        return
    assert not model.training


# -- dask -----------------------------------------------------------------------------


@case("dask", "uneven chunks, the first of 3 x 1 pixels", "no reads of 3 x 1 pixels")
def uneven_chunks(folder: Path) -> None:
    array = da.from_array(GREY, chunks=((3, 100, 100), (1, 150, 150)))
    image = image_from_array(array, name="a")
    assert min(image.sources[0].chunks) >= 64
    found = pixels(image)
    np.testing.assert_array_equal(found[..., 0], GREY)


@case("dask", "chunks of unknown size", "a sentence")
def unknown_chunks(folder: Path) -> None:
    array = da.from_array(GREY, chunks=50)
    array = array[array[:, 0] > 99]
    with pytest.raises(UhrSegError):
        image_from_array(array, name="a")


@case("dask", "a block raises an error", "a read error of ours")
def failing_block(folder: Path) -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("broken")

    array = da.from_array(GREY, chunks=50).map_blocks(fail, dtype="u1", meta=GREY[:0])
    with pytest.raises(UhrSegError):
        pixels(image_from_array(array, name="a"))


@case("dask", "slices with steps and negative indices of a level", "as numpy")
def level_slices(folder: Path) -> None:
    level = image_from_array(GREY, name="a").levels[0]
    for key in (
        np.s_[-9:],
        np.s_[::7, ::-5],
        np.s_[5, :],
        np.s_[200:100],
        np.s_[..., 3],
    ):
        np.testing.assert_array_equal(np.asarray(level[key]), GREY[key])


@case("dask", "object dtype, text, dates", "a sentence")
def object_pixels(folder: Path) -> None:
    for data in (GREY.astype(object), GREY.astype(str), GREY.astype("datetime64[s]")):
        with pytest.raises(UhrSegError):
            pixels(image_from_array(data, name="a"))


@case("dask", "overlap wider than the last chunk", "the same labels")
def wide_overlap(folder: Path) -> None:
    from helpers.networks import LEGEND as TOY
    from helpers.networks import ToyNet, make_checkpoint
    from helpers.segmentation import BUDGET, SETTINGS, noise_image
    from napari_uhrseg.engine.inference.segment import segment

    image, net = noise_image(1030, 1027, 3), make_checkpoint(ToyNet(window=128))
    found = []
    for chunks in (1, 8):
        limits = replace(SETTINGS.limits, block_chunks=chunks)
        settings = replace(SETTINGS, overlap=64, limits=limits)
        with LabelStore.create(None, image, TOY) as store:
            for _ in segment(image, net, store, settings, BUDGET):
                pass
            found.append(store.prediction[0][:])
    np.testing.assert_array_equal(*found)
    assert (found[0] > 0).all()
