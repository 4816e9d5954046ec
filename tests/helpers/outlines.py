"""Label maps cut into strips, and the outlines that are traced in them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import shapely
import zarr

from helpers.label_stores import LEGEND
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.rings import Outline
from napari_uhrseg.io.vectorize.trace import trace_outlines
from napari_uhrseg.types import Roi


def strips(
    labels: np.ndarray, heights: Sequence[int]
) -> Iterator[tuple[Roi, np.ndarray]]:
    """Yield the map in strips of these heights, repeated as often as needed."""
    y, i = 0, 0
    while y < len(labels):
        part = labels[y : y + heights[i % len(heights)]]
        yield Roi(y, 0, *part.shape), part
        y, i = y + len(part), i + 1


def outlines(
    labels: np.ndarray,
    heights: Sequence[int],
    limits: VectorLimits = VectorLimits(),
) -> list[Outline]:
    """Return the outlines of all objects of a map that is read in strips."""
    found = trace_outlines(strips(labels, heights), limits)
    return [o for o in found if isinstance(o, Outline)]


def polygon(outline: Outline) -> shapely.Polygon:
    """Return the polygon of an outline, in pixels."""
    outer, *holes = (ring[:, :2] for ring in outline.rings)
    return shapely.Polygon(outer, holes)


class GeneratedLabels:
    """A store of labels that are generated when they are read.

    The left half is a background with holes. The right half is a serpent with teeth,
    which is one ring. The arrays on the disk only say that every chunk has labels.
    """

    crs, affine, pixel_size, legend = None, None, None, LEGEND
    aliases: ClassVar = {}

    def __init__(self, height: int, width: int = 512) -> None:
        self.shape = height, width
        self._folder = TemporaryDirectory()
        self.path = Path(self._folder.name) / "drawn.zarr"
        chunks = STORE_CHUNK, STORE_CHUNK
        array = zarr.create_group(self.path).create_array(
            "labels", shape=self.shape, chunks=chunks, dtype="u1"
        )
        array[:] = 1
        self.prediction = self.correction = (array,)

    def read_labels(self, roi: Roi, level: int = 0) -> np.ndarray:
        y, x = np.mgrid[roi.y : roi.bottom, roi.x : roi.right]
        end = np.where(y % 8 < 4, self.shape[1] - 1, self.shape[1] // 2 + 1)
        serpent = (y % 4 == 0) | ((y % 4 == 1) & (x % 2 == 0)) | (x == end)
        holes = (y % 8 == 2) & (x % 16 == 2)
        left = x < self.shape[1] // 2
        return np.where(left, np.where(holes, 2, 1), 2 * serpent).astype(np.uint8)
