"""Clean-up of the displayed labels of a store, as strips or as a temporary store."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.cleanup.majority import majority_strips
from napari_uhrseg.io.cleanup.sieve import sieve_strips
from napari_uhrseg.io.export.pixel_area import pixel_area
from napari_uhrseg.io.export.registry import shown_legend
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.paths import PathOrUrl, error_text, io_errors
from napari_uhrseg.io.vectorize.label_strips import read_strips
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import AreaSize, Block, CleanUp, Labels, Roi, Run

SQUARE_METRES = {"µm²": 1e-12, "m²": 1.0}


def size_in_pixels(store: LabelStore, size: AreaSize) -> float:
    """Return an area in pixels of a store; in its middle row if they differ.

    Raises
    ------
    UhrSegError
        If the area is not in pixels, and the pixel size is unknown.
    """
    pixels = pixel_area(store)
    metres = SQUARE_METRES.get(pixels.unit)
    if metres is None:
        return size.pixels(None)
    middle = Roi(store.shape[0] // 2, store.shape[1] // 2, 1, 1)
    area = pixels.pixel or float(pixels.rows(middle)[0])
    return size.pixels(area * metres)


def cleaned_strips(
    store: LabelStore,
    clean_up: CleanUp,
    folder: Path,
    limits: VectorLimits = VectorLimits(),
) -> Iterator[float | tuple[Roi, Labels]]:
    """Yield the displayed labels of a store after a clean-up, from top to bottom.

    The result does not depend on how the image is divided: objects that cross strips
    are one object.

    Parameters
    ----------
    store
        A label store. It may be read-only, but its labels must not change meanwhile.
    clean_up
        What to clean up.
    folder
        Folder for temporary files: 26 bytes for each region of equal labels.
    limits
        Sizes of reads and strips.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    roi, labels
        Strips of the full width, with uint8 labels.

    Raises
    ------
    UhrSegError
        If a size is not in pixels, and the pixel size is unknown.
    """
    height, width = store.shape
    sizes = np.full(256, size_in_pixels(store, clean_up.min_object))
    sizes[0] = size_in_pixels(store, clean_up.fill_holes)

    def strips() -> Iterable[tuple[Roi, Labels]]:
        found = read_strips(store, Roi(0, 0, height, width), limits)
        return majority_strips(found, clean_up.majority) if clean_up.majority else found

    if sizes.any():
        yield from sieve_strips(strips, sizes, height, folder)
        return
    for roi, labels in strips():
        yield roi, labels
        yield roi.bottom / height


def clean_labels(
    store: LabelStore,
    clean_up: CleanUp,
    folder: Path,
    limits: VectorLimits = VectorLimits(),
) -> Iterator[float | PathOrUrl]:
    """Write the displayed labels after a clean-up into another store.

    Export and measure this store instead of the first one. The memory is that of
    `cleaned_strips`, and of 1024 rows of labels.

    Parameters
    ----------
    store
        A label store. It may be read-only, but its labels must not change meanwhile.
    clean_up
        What to clean up.
    folder
        An empty folder for the store and for temporary files.
    limits
        Sizes of reads and strips.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    path
        Path of the store, last. It has the name of the first one, and no confidence.

    Raises
    ------
    UhrSegError
        If a size is not in pixels, and the pixel size is unknown, or if the disk is
        full.
    """
    image = _ImageOf(store)
    try:
        cleaned = LabelStore.create(
            folder / store.path.name, image, shown_legend(store)
        )
        with cleaned:
            run = cleaned.run_ledger.start_run(_record(store))
            write = partial(_write, cleaned, run.id)
            rows: list[Labels] = []
            top = 0
            for found in cleaned_strips(store, clean_up, folder, limits):
                if isinstance(found, float):
                    yield found
                    continue
                rows.append(found[1])
                top = _write_bands(rows, top, store.shape[0], write)
        yield cleaned.path
    except io_errors(folder) as error:
        raise UhrSegError(
            f"The clean-up needs space in {folder}: {error_text(error)}.",
            "Free some space on this disk, or set TMPDIR to another one.",
        ) from error


class _ImageOf:
    """Image metadata of a store, for a new store of the same image."""

    def __init__(self, store: LabelStore) -> None:
        info = store.info
        self.name, self.path = info.name, store.image_path
        self.fingerprint, self.shape = info.fingerprint, info.shape
        self.pixel_size, self.unit = info.pixel_size, info.unit
        self.crs, self.affine = info.crs, info.affine


def _record(store: LabelStore) -> Run:
    return Run(
        id=0, image_path="", image_fingerprint=store.info.fingerprint,
        model="clean-up", checkpoint="", checkpoint_hash="", class_map=(), bands=(),
        scale=1.0, value_range=(), window=0, overlap=0, placement="", merge="",
        region=None, skip_background=False, batch_size=1, precision="fp32",
    )  # fmt: skip


def _write_bands(
    rows: list[Labels], top: int, height: int, write: "partial[None]"
) -> int:
    """Write whole rows of chunks; return the row where the others begin.

    Parameters
    ----------
    rows
        Labels from the row ``top`` on. The written ones are removed.
    top
        First row that is not written.
    height
        Height of the image.
    write
        Function that writes a band of labels at a row.
    """
    count = sum(map(len, rows))
    while count >= STORE_CHUNK or (count and top + count == height):
        joined = np.concatenate(rows)
        band, rest = joined[:STORE_CHUNK], joined[STORE_CHUNK:]
        write(top, band)
        rows[:] = [rest] if len(rest) else []
        top, count = top + len(band), len(rest)
    return top


def _write(store: LabelStore, run_id: int, top: int, band: Labels) -> None:
    """Write the chunks of a band that have labels."""
    whole = Roi(top, 0, *band.shape)
    for roi in whole.tiles(STORE_CHUNK):
        labels = band[roi.shift(-top, 0).slices]
        if labels.any():
            store.write(Block(roi, labels, np.zeros_like(labels)), run_id, "done")
