"""Kinds of files that the program opens: how each is made, and how it is opened."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import tifffile
from PIL import Image as Pillow

from campaign.mutators import Mutation, change_tag, forge_record
from helpers.label_stores import LEGEND, RUN, FakeImage, chunk_block
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.pyramid_builder import fill_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Block, Roi, Stroke

SHAPE = (300, 280)
GREY = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
UTM32 = rasterio.CRS.from_epsg(32632).to_wkt()
AFFINE = (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_300_000.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """Kind of file.

    Attributes
    ----------
    make
        ``make(folder, variant)`` writes a sound file or folder and returns its path.
    open
        ``open(path)`` opens it as the program does.
    variants
        Number of different sound files.
    extra
        Mutations of the format.
    pattern
        Glob of the files to mutate in a folder; empty: the path itself.
    """

    make: Callable[[Path, int], Path]
    open: Callable[[Path], object]
    variants: int = 1
    extra: tuple[Mutation, ...] = ()
    pattern: str = ""


# -- images ---------------------------------------------------------------------------


def read_image(path: Path) -> None:
    """Open an image, and read from its finest and its coarsest level."""
    image = open_image(path)
    height, width = image.shape
    with contextlib.suppress(OverflowError):
        assert height > 0
    for y, x in ((0, 0), (height // 2, width // 2), (height - 40, width - 40)):
        image.read(Roi(max(0, y), max(0, x), min(64, height), min(64, width)))
    _ = image.meters_per_pixel, image.contrast_limits, image.warnings, image.series
    if height * width < 4_000_000:
        np.asarray(image.levels[-1])


def make_tiff(folder: Path, variant: int) -> Path:
    path = folder / "scan.tif"
    tiles = {"tile": (64, 64), "photometric": "rgb"}
    options: list[dict] = [
        {"data": COLOUR, "compression": "zstd", **tiles},
        {"data": GREY.astype(np.uint16), "compression": "deflate", "predictor": True},
        {"data": COLOUR, "compression": "jpeg", **tiles},
        {"data": COLOUR, "bigtiff": True, "byteorder": ">", **tiles},
        {"data": COLOUR.transpose(2, 0, 1), "photometric": "rgb",
         "planarconfig": "separate", "compression": "lzw"},
        {"data": GREY.astype(np.float32), "predictor": 3, "compression": "deflate"},
        {"data": GREY, "photometric": "palette",
         "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256)},
    ]  # fmt: skip
    tifffile.imwrite(
        path, resolution=(2e4, 2e4), resolutionunit="CENTIMETER", **options[variant]
    )
    return path


def make_ome_tiff(folder: Path, variant: int) -> Path:
    path = folder / "scan.ome.tif"
    about = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    planes = np.stack([GREY, GREY[::-1]])
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(planes, tile=(64, 64), subifds=variant, metadata=about)
        for level in range(variant):
            part = planes[:, :: 2 << level, :: 2 << level]
            file.write(part, tile=(64, 64), subfiletype=1)
    return path


def make_svs(folder: Path, variant: int) -> Path:
    path, jpeg = folder / "scan.svs", "jpeg" if variant else "deflate"
    about = "Aperio Image Library v11.2.1 \r\n280x300|AppMag = 20|MPP = 0.4990"
    tiles: dict = {"tile": (240, 240), "compression": jpeg, "photometric": "rgb"}
    with tifffile.TiffWriter(path) as file:
        file.write(COLOUR, description=about, metadata=None, **tiles)
        file.write(COLOUR[::8, ::8], photometric="rgb", metadata=None)
        file.write(COLOUR[::4, ::4], metadata=None, **tiles)
    return path


def make_geotiff(folder: Path, variant: int) -> Path:
    from rasterio.enums import Resampling

    path = folder / "map.tif"
    dtype, codec = (("uint8", "lzw"), ("uint16", "zstd"), ("float32", "lerc"))[variant]
    profile = {
        "driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 3,
        "dtype": dtype, "crs": "EPSG:32632",
        "transform": rasterio.Affine(*AFFINE), "nodata": 0, "tiled": True,
        "blockxsize": 64, "blockysize": 64, "compress": codec,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(COLOUR.transpose(2, 0, 1).astype(profile["dtype"]))
        file.build_overviews([2, 4], Resampling.average)
        file.update_tags(1, STATISTICS_MINIMUM=0, STATISTICS_MAXIMUM=254)
    return path


def make_vrt(folder: Path, variant: int) -> Path:
    make_geotiff(folder, variant)
    source = (
        '<SimpleSource><SourceFilename relativeToVRT="1">map.tif</SourceFilename>'
        "<SourceBand>1</SourceBand><SrcRect xOff='0' yOff='0' xSize='280' ySize='300'/>"
        "<DstRect xOff='0' yOff='0' xSize='280' ySize='300'/></SimpleSource>"
    )
    path = folder / "map.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="280" rasterYSize="300"><SRS>EPSG:32632</SRS>'
        "<GeoTransform>500000, 0.5, 0, 5300000, 0, -0.5</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand></VRTDataset>'
    )
    return path


def make_picture(folder: Path, variant: int, suffix: str) -> Path:
    path = folder / f"scan{suffix}"
    picture = Pillow.fromarray((COLOUR, GREY)[variant % 2])
    if suffix == ".png" and variant == 2:
        picture = Pillow.fromarray(COLOUR).convert("P")
    picture.save(path, dpi=(300, 300))
    return path


def make_zarr(folder: Path, variant: int) -> Path:
    import zarr

    path, version = folder / "scan.zarr", 2 + variant % 2
    group = zarr.open_group(path, mode="w", zarr_format=version)
    datasets = []
    for level in range(2):
        part = COLOUR.transpose(2, 0, 1)[:, :: 1 << level, :: 1 << level]
        array = group.create_array(
            str(level), shape=part.shape, dtype="u1", chunks=(1, 128, 128)
        )
        array[:] = part
        scale = [1.0, 0.5 * 2**level, 0.5 * 2**level]
        change = {"type": "scale", "scale": scale}
        datasets.append({"path": str(level), "coordinateTransformations": [change]})
    axes: list[dict] = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    about = {"axes": axes, "datasets": datasets, "name": "scan"}
    if version == 2:
        group.attrs["multiscales"] = [{**about, "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [about]}
    return path


# -- label stores ---------------------------------------------------------------------


def make_store(folder: Path, variant: int) -> Path:
    path = folder / "labels.zarr"
    with LabelStore.create(path, FakeImage(SHAPE), LEGEND) as store:
        run = store.run_ledger.start_run(RUN)
        store.write(chunk_block(0, 0, 0, SHAPE), run.id, "done")
        with Corrections.open(store) as painting:
            for number in range(4):
                mask = np.ones((30, 40), bool)
                ids = np.full(mask.shape, 1 + number % 2, np.uint8)
                painting.apply(Stroke(Roi(20 * number, 9, 30, 40), mask, ids))
            painting.undo()
    return path


def use_store(path: Path) -> None:
    """Open a store for writing, read it, and undo and redo corrections."""
    with LabelStore.open(path, write=True) as store:
        store.read_labels(Roi(0, 0, min(store.shape[0], 2000), 300))
        _ = store.area_shares(), store.coarsest_confidence(), store.image_path
        with Corrections.open(store) as painting:
            _ = painting.counts(), painting.corrected_regions()
            painting.undo()
            painting.redo()
            painting.redo()
            mask = np.ones((8, 8), bool)
            ids = mask.astype(np.uint8)
            painting.apply(Stroke(Roi(0, 0, 8, 8), mask, ids))


def make_overviews(folder: Path, variant: int) -> Path:
    path = folder / "scan.tif"
    tifffile.imwrite(path, np.tile(GREY, (16, 16)), tile=(512, 512))
    os.environ["NAPARI_UHRSEG_CACHE"] = str(folder)
    for _ in fill_levels(open_image(path)):
        pass
    return folder / "levels"


def use_overviews(path: Path) -> None:
    """Open an image with a damaged cache of its levels, and fill it again."""
    os.environ["NAPARI_UHRSEG_CACHE"] = str(path.parent)
    image = open_image(path.parent / "scan.tif")
    for _ in fill_levels(image):
        pass
    np.asarray(image.levels[-1])


# -- models ---------------------------------------------------------------------------


def make_checkpoint(folder: Path, variant: int) -> Path:
    from helpers.corrections import checkpoint

    return checkpoint(folder).path


def use_checkpoint(path: Path) -> object:
    from napari_uhrseg.models.checkpoint import load_checkpoint

    return load_checkpoint(path)


def make_torch_file(folder: Path, variant: int) -> Path:
    import torch

    path = folder / "weights.pth"
    state = {f"module.layer{k}.weight": torch.zeros(8, 8) for k in range(4)}
    document: object = {"state_dict": state, "epoch": 3} if variant % 2 else state
    torch.save(document, path, _use_new_zipfile_serialization=variant < 2)
    return path


def use_torch_file(path: Path) -> object:
    from napari_uhrseg.models.importers import import_checkpoint

    return import_checkpoint(path, "isdnet")


def make_smp_folder(folder: Path, variant: int) -> Path:
    import segmentation_models_pytorch as smp

    model = smp.Unet(
        "tu-test_efficientnet", encoder_weights=None, encoder_depth=5, classes=2,
        decoder_channels=(16, 8, 8, 8, 8),
    )  # fmt: skip
    model.save_pretrained(folder / "model")
    return folder / "model"


def use_smp_folder(path: Path) -> object:
    from napari_uhrseg.models.importers import import_checkpoint

    return import_checkpoint(path, "plain")


def make_calibration(folder: Path, variant: int) -> Path:
    use_calibration(folder / "levels")
    return folder / "levels"


def use_calibration(path: Path) -> None:
    """Plan a run with the profiles in a cache folder."""
    from helpers.networks import ToyNet
    from helpers.networks import make_checkpoint as toy
    from helpers.segmentation import AUTO_BATCH, BUDGET
    from napari_uhrseg.engine.planning.plan import make_plan

    os.environ["NAPARI_UHRSEG_CACHE"] = str(path.parent)
    image = image_from_array(COLOUR, name="a", rgb=True)
    make_plan(image, toy(ToyNet()), AUTO_BATCH, BUDGET)


# -- texts ----------------------------------------------------------------------------


def make_geojson(folder: Path, variant: int) -> Path:
    path = folder / "areas.geojson"
    square = [[10, 10], [90, 10], [90, 80], [10, 80], [10, 10]]
    about = {"objectType": "annotation", "classification": {"name": "lake"}}
    shapes = [
        {"type": "Polygon", "coordinates": [square]},
        {"type": "MultiPolygon", "coordinates": [[square]]},
    ]
    features = [
        {"type": "Feature", "geometry": shape, "properties": about} for shape in shapes
    ]
    document: dict = {"type": "FeatureCollection", "features": features}
    if variant:
        name = {"name": "urn:ogc:def:crs:EPSG::32632"}
        document["crs"] = {"type": "name", "properties": name}
    path.write_text(json.dumps(document))
    return path


def use_polygons(path: Path) -> object:
    from napari_uhrseg.io.corrections.polygon_import import read_polygons

    image = FakeImage(SHAPE, crs=UTM32, affine=AFFINE, unit="metre")
    return read_polygons(path, image)


def make_geopackage(folder: Path, variant: int) -> Path:
    from napari_uhrseg.io.export import export

    image = FakeImage(SHAPE, crs=UTM32, affine=AFFINE, unit="metre")
    with LabelStore.create(None, image, LEGEND) as store:
        run = store.run_ledger.start_run(RUN)
        labels = np.kron(np.array([[1, 2], [0, 1]], np.uint8), np.ones((150, 140)))
        ids = labels.astype(np.uint8)
        store.write(Block(Roi(0, 0, *SHAPE), ids, ids * 9), run.id, "done")
        for _ in export(store, folder / "areas.gpkg", "geopackage"):
            pass
    return folder / "areas.gpkg"


def make_classes(folder: Path, variant: int) -> Path:
    path = folder / "classes.txt"
    path.write_text("0 road #ff8000\n1 lake #0000ff\n7 wood\n\n#00ff00 field\n")
    return path


def use_classes(path: Path) -> object:
    from napari_uhrseg.engine.data.mask_legend import read_classes

    return read_classes(path)


def pictures(suffix: str) -> Callable[[Path, int], Path]:
    return lambda folder, variant: make_picture(folder, variant, suffix)


KINDS: dict[str, Kind] = {
    "tiff": Kind(make_tiff, read_image, 7, (change_tag,)),
    "ome-tiff": Kind(make_ome_tiff, read_image, 3, (change_tag,)),
    "svs": Kind(make_svs, read_image, 2, (change_tag,)),
    "geotiff": Kind(make_geotiff, read_image, 3, (change_tag,)),
    "vrt": Kind(make_vrt, read_image, 2),
    "png": Kind(pictures(".png"), read_image, 3),
    "jpeg": Kind(pictures(".jpg"), read_image, 2),
    "ome-zarr": Kind(make_zarr, read_image, 2, (), "*"),
    "store": Kind(make_store, use_store, 1, (), "*"),
    "journal": Kind(make_store, use_store, 1, (forge_record,), "*.log"),
    "counts": Kind(make_store, use_store, 1, (), "counts.npz"),
    "overviews": Kind(make_overviews, use_overviews, 1, (), "*"),
    "calibration": Kind(make_calibration, use_calibration, 1, (), "*.json"),
    "checkpoint": Kind(make_checkpoint, use_checkpoint),
    "torch": Kind(make_torch_file, use_torch_file, 4),
    "smp": Kind(make_smp_folder, use_smp_folder, 1, (), "*"),
    "geojson": Kind(make_geojson, use_polygons, 2),
    "geopackage": Kind(make_geopackage, use_polygons),
    "classes": Kind(make_classes, use_classes),
}
