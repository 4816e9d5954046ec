"""Sizes that bound the memory of tracing."""

from dataclasses import dataclass

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK


@dataclass(frozen=True, slots=True)
class VectorLimits:
    """Upper bounds of reading and tracing labels.

    The defaults suit all images. Smaller ones make a small image behave as a large
    one does, which is how the tests use them.

    Attributes
    ----------
    band_bytes
        Bytes of labels that are read at once. At least 64 rows are read.
    read_columns
        Width in pixels of one read. Reading takes three times the memory of its
        result.
    strip_pixels
        Pixels of a strip that is traced at once. A strip has at least 16 rows.
    spill_bytes
        Bytes of corners of unfinished objects in memory. More are written to a
        temporary file.
    spill_rows
        Rows that are read from the temporary file at once.
    max_corners
        Corners of an object that is not divided.
    coverage_corners
        Corners of the objects that are simplified together; the borders to others keep
        theirs.
    """

    band_bytes: int = 1 << 26
    read_columns: int = 4 * STORE_CHUNK
    strip_pixels: int = 1 << 20
    spill_bytes: int = 1 << 25
    spill_rows: int = 1 << 16
    max_corners: int = 1_000_000
    coverage_corners: int = 2_000_000
