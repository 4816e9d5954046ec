"""A project of three small images, of which the last is missing."""

from pathlib import Path

import numpy as np
import tifffile

from helpers.corrections import correct
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.io.project.project_file import ProjectFile
from napari_uhrseg.types import LabelClass, Legend, Roi

LEGEND = Legend((LabelClass(1, "dark", "#101010"), LabelClass(2, "light", "#f0f0f0")))
NAMES = ("red.tif", "blue.tif", "gone.tif")


def make_project(folder: Path) -> ProjectFile:
    """Write the images red and blue, and their project; red has corrections."""
    entries = [ProjectImage(name, f"labels/{name}.labels.zarr") for name in NAMES]
    for channel, name in ((0, "red.tif"), (2, "blue.tif")):
        pixels = np.zeros((60, 120, 3), np.uint8)
        pixels[..., channel] = 200
        tifffile.imwrite(folder / name, pixels, photometric="rgb")
    file = ProjectFile(folder / "p.uhrproject.json")
    file.create(Project(tuple(entries), LEGEND))
    image = open_image(folder / "red.tif")
    with LabelStore.create(folder / entries[0].labels, image, LEGEND) as store:
        correct(store, Roi(0, 0, 20, 20), 1)
    return file
