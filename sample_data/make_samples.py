"""Create the sample files, and training scenes of other seeds.

python sample_data/make_samples.py
python sample_data/make_samples.py --scenes DIR --seeds 11 12 13 --size 2048
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from napari_uhrseg.samples.slide import write_slide
from napari_uhrseg.samples.world import CLASSES, World

SAMPLE_SEED = 2004
"""Seed of the sample scene, excluded from training and from model comparisons."""

ORIGIN = {"crs": "EPSG:32632", "transform": from_origin(691_000, 5_336_000, 0.5, 0.5)}
"""Georeference of the synthetic landscape: UTM zone 32 north, 0.5 m pixels."""

COLORS = {c.id: (*c.rgb, 255) for c in CLASSES}


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write (h, w, 3) uint8 as a cloud-optimised GeoTIFF in JPEG."""
    options = {"driver": "COG", "compress": "JPEG", "quality": 85, "blocksize": 512}
    options |= {"overview_quality": 85, "overview_resampling": "average"}
    _write(path, rgb.transpose(2, 0, 1), options, None)


def write_labels(path: Path, labels: npt.NDArray[np.uint8]) -> None:
    """Write (h, w) uint8 losslessly, with the legend's colours; 0 is nodata."""
    options = {"driver": "COG", "compress": "DEFLATE", "level": 9, "blocksize": 512}
    options |= {"overview_resampling": "nearest", "nodata": 0}
    _write(path, labels[None], options, COLORS)


def _write(
    path: Path,
    bands: npt.NDArray[np.uint8],
    options: dict[str, Any],
    colors: dict[int, tuple[int, int, int, int]] | None,
) -> None:
    count, height, width = bands.shape
    shape = {"height": height, "width": width, "count": count, "dtype": "uint8"}
    # The COG driver only copies, so the pixels pass through memory first.
    with rasterio.MemoryFile() as memory:
        plain = {k: v for k, v in options.items() if k == "nodata"}
        with memory.open(driver="GTiff", **shape, **ORIGIN, **plain) as file:
            file.write(bands)
            if colors is not None:
                file.write_colormap(1, colors)
                file.update_tags(1, **{f"class_{c.id}": c.name for c in CLASSES})
        with memory.open() as file:
            rasterio.shutil.copy(file, path, **options)


def make_scenes(folder: Path, seeds: list[int], size: int) -> None:
    """Write training scenes: folder/images/SEED.tif and folder/masks/SEED.tif.

    ``folder/classes.txt`` names the classes of the masks for `train --classes`.
    """
    if SAMPLE_SEED in seeds:
        raise SystemExit(f"seed {SAMPLE_SEED} is reserved for the sample scene")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    lines = [f"{c.id} {c.name} {c.color}\n" for c in CLASSES]
    (folder / "classes.txt").write_text("".join(lines), encoding="utf-8")
    for seed in seeds:
        rgb, labels = World(seed, (size, size)).render(0, 0, size, size)
        write_image(folder / "images" / f"{seed}.tif", rgb)
        write_labels(folder / "masks" / f"{seed}.tif", labels)
        print(f"scene {seed}")


def make_samples(folder: Path, size: int = 4096) -> None:
    """Write the sample scene, its ground truth and the slide."""
    rgb, labels = World(SAMPLE_SEED, (size, size)).render(0, 0, size, size)
    write_image(folder / "scene.tif", rgb)
    write_labels(folder / "scene_labels.tif", labels)
    write_slide(folder / "slide.tif")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, help="write training scenes here")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--size", type=int, default=2048, help="a scene's side, pixels")
    args = parser.parse_args()
    if args.scenes is not None:
        make_scenes(args.scenes, args.seeds, args.size)
    else:
        make_samples(Path(__file__).parent)


if __name__ == "__main__":
    main()
