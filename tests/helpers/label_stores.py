"""An image, runs, blocks and checks for the tests of label stores."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.types import Block, LabelClass, Legend, Roi, Run

CELL = 20  # side in pixels of the squares of one class; odd at a coarser level
LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))


@dataclass
class FakeImage:
    shape: tuple[int, int] = (5000, 2100)
    name: str = "scene"
    path: Path | None = None
    fingerprint: str = "abc"
    pixel_size: tuple[float, float] | None = (0.5, 0.25)
    unit: str = "micrometer"
    crs: str | None = None
    affine: tuple[float, ...] | None = None


RUN = Run(
    id=0,
    image_path="scene.tif",
    image_fingerprint="abc",
    model="plain",
    checkpoint="runs/plain.safetensors",
    checkpoint_hash="123",
    class_map=(1, 2),
    bands=(0, 1, 2),
    scale=0.7,
    value_range=(0.0, 255.0),
    window=256,
    overlap=32,
    placement="shift",
    merge="uniform",
    region=None,
    skip_background=False,
    batch_size=4,
    precision="fp32",
)
OTHER = replace(RUN, model="scpseg", checkpoint="s.safetensors", checkpoint_hash="456")


def roi_of_chunks(row, column, rows, columns, shape):
    return Roi(row * 1024, column * 1024, rows * 1024, columns * 1024).intersect(
        Roi(0, 0, *shape)
    )


def chunk_block(row, column, seed, shape, rows=1, columns=1):
    """Return a block whose pixels are a function of its position and the seed."""
    roi = roi_of_chunks(row, column, rows, columns, shape)
    # as many columns and the same seed: a taller block begins with the same rows
    size = (roi.height // CELL + 1, roi.width // CELL + 1)
    data = []
    for what, (low, high) in enumerate(((0, 3), (1, 256))):
        rng = np.random.default_rng((seed, row, column, what))
        coarse = rng.integers(low, high, size, np.uint8)
        pixels = coarse.repeat(CELL, 0).repeat(CELL, 1)
        data.append(pixels[: roi.height, : roi.width])
    labels, confidence = data
    return Block(roi, labels, confidence * (labels > 0))


def assert_levels_consistent(store):
    """Check that all levels follow from level 0, and the arrays in memory from disk."""
    for levels, coarser in (
        (store.prediction, coarser_labels),
        (store.correction, coarser_labels),
        (store.confidence, coarser_confidence),
    ):
        data = levels[0][:]
        for level in levels[1:]:
            data = coarser(data)
            np.testing.assert_array_equal(level[:], data)
    prediction, correction = store.prediction[-1][:], store.correction[-1][:]
    np.testing.assert_array_equal(
        store.coarsest_displayed(), np.where(correction, correction, prediction)
    )
    np.testing.assert_array_equal(store.coarsest_confidence(), store.confidence[-1][:])
