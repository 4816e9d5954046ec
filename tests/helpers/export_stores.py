"""A store with labels, a correction and a merged class, on the map or not."""

import numpy as np

from helpers.label_stores import RUN, FakeImage, chunk_block
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.chunk_status import chunk_grid
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi, Stroke

LEGEND = Legend(
    (
        LabelClass(1, "road", "#ff8000"),
        LabelClass(2, "lake", "#0000ff"),
        LabelClass(3, "pond", "#00ffff"),
    )
)
SHAPE = (2500, 1100)
UTM32 = 32632


def image(epsg=None, affine=None, **fields):
    """A fake image; with an EPSG code it lies on the map."""
    import rasterio

    if epsg is None:
        return FakeImage(SHAPE, **fields)
    crs = rasterio.CRS.from_epsg(epsg)
    affine = affine or (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_300_000.0)
    unit = "degree" if crs.is_geographic else "metre"
    size = (-affine[4], affine[0])
    return FakeImage(
        SHAPE, pixel_size=size, unit=unit, crs=crs.to_wkt(), affine=affine, **fields
    )


def make_store(path, shown_by=None, missing=()):
    """Labels all over but for the missing chunks, with a correction of pond.

    The pond is merged into lake: what is shown has classes 1 and 2.
    """
    store = LabelStore.create(path, shown_by or image(), LEGEND)
    run = store.run_ledger.start_run(RUN)
    for row, column in np.ndindex(*chunk_grid(store.shape)):
        if (row, column) not in missing:
            store.write(chunk_block(row, column, 0, store.shape), run.id, "done")
    corrections = Corrections.open(store)
    mask = np.ones((100, 200), bool)
    stroke = Stroke(Roi(1000, 900, 100, 200), mask, np.full(mask.shape, 3, np.uint8))
    corrections.apply(stroke)
    corrections.close()
    store.legend_editor.merge_class(3, 2)
    return store


def truth(store, level=0):
    """What is shown, by the two arrays alone."""
    prediction = np.asarray(store.prediction[level][:])
    correction = np.asarray(store.correction[level][:])
    shown = np.where(correction > 0, correction, prediction)
    return np.where(shown == 3, 2, shown).astype(np.uint8)
