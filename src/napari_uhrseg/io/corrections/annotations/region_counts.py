"""Numbers of corrected pixels in regions."""

from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.pyramid import apply_aliases, read_array
from napari_uhrseg.types import Region, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


def count_corrected(store: "LabelStore", region: Region) -> dict[int, int]:
    """Return the exact number of corrected pixels in a region by displayed class id.

    Only chunks with corrections are read, one at a time.
    """
    from napari_uhrseg.io.labels.store_files import written_chunks

    corrections = store.correction[0]
    there = written_chunks(store.path, corrections)
    inside = region.bounds.intersect(Roi(0, 0, *store.shape))
    counts = np.zeros(256, np.int64)
    for row, column in np.argwhere(there).tolist():
        chunk = Roi(row * STORE_CHUNK, column * STORE_CHUNK, STORE_CHUNK, STORE_CHUNK)
        part = chunk.intersect(inside)
        if part.area:
            labels = read_array(corrections, part.slices)
            shown = apply_aliases(labels, store.aliases)
            counts += np.bincount(shown[rasterize(region, part)], minlength=256)
    return {i: int(n) for i, n in enumerate(counts.tolist()) if i and n}
