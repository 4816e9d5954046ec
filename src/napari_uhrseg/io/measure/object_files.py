"""Files of the table of objects: CSV, GeoPackage and Parquet.

The table is written while it is measured; see `objects` for the columns and the memory.
GeoPackage and Parquet files get rows in groups of 20,000 or more. The column ``object``
numbers the objects from 1.
"""

import csv
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import atomic_target, check_crs
from napari_uhrseg.io.export.geopackage import (
    PIXELS,
    check_pyogrio,
    pyogrio_errors,
)
from napari_uhrseg.io.export.polygons import to_crs
from napari_uhrseg.io.measure.objects import Columns, measure_objects, object_columns

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore

GROUP_ROWS = 20_000  # rows that are written to a GeoPackage or Parquet file together
LAYER = "objects"


class _Writer(Protocol):
    """Writer of one file."""

    def write(self, rows: Columns) -> None: ...
    def close(self) -> None: ...


def write_objects(
    store: "LabelStore",
    path: Path | str,
    image: "Image | None" = None,
    *,
    overwrite: bool = False,
) -> Iterator[float]:
    """Write a table with a row for each connected object.

    Parameters
    ----------
    store
        Label store, of which the displayed labels are measured.
    path
        File that ends in ``.csv``, ``.parquet`` or ``.gpkg`` (points at the centroids,
        in the CRS of the image).
    image
        Image of the store, for the mean intensity of each band; None: no intensities.
    overwrite
        If True, an existing file is replaced once the new one is complete.

    Yields
    ------
    float
        Finished fraction, from 0 to 1. Closing the generator removes the partial file.

    Raises
    ------
    ExportError
        If the suffix is another one, a library is missing, the file exists or cannot be
        written, or the image has another size than the labels.
    StoreError, ReadError
        If labels or pixels cannot be read.
    """
    target = Path(path).absolute()
    opened = check_table(target)
    if target.suffix.lower() == ".gpkg":
        check_crs(store)
    with atomic_target(target, overwrite=overwrite) as building:
        writer = _Grouped(
            opened(building, store, _numbered(object_columns(store, image), 0))
        )
        try:
            for found in measure_objects(store, image):
                if isinstance(found, float):
                    yield min(found, 0.99)
                else:
                    writer.write(found)
        finally:
            writer.close()
    yield 1.0


def check_table(path: Path) -> "Callable[[Path, LabelStore, Columns], _Writer]":
    """Return the writer of the suffix of a path.

    Raises
    ------
    ExportError
        If there is none, or its library is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ExportError(
            f"{path.name} does not end in {', '.join(WRITERS)}; nothing was written.",
            "Choose a name with one of these suffixes.",
        )
    if suffix == ".gpkg":
        check_pyogrio()
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ExportError(
            "Parquet is written with pyarrow, which is not installed.",
            'Install it with: pip install "napari-uhrseg[parquet]". Or choose a CSV '
            "file.",
        )
    return WRITERS[suffix]


def _numbered(rows: Columns, first: int) -> Columns:
    """Return rows with the number of each object as the first column."""
    count = len(rows["pixels"])
    return {"object": np.arange(first, first + count, dtype=np.int64), **rows}


class _Grouped:
    """Rows that wait until there are enough of them for one write."""

    def __init__(self, writer: _Writer) -> None:
        self._writer, self._count, self._next = writer, 0, 1
        self._waiting: list[Columns] = []

    def write(self, rows: Columns) -> None:
        self._waiting.append(_numbered(rows, self._next))
        self._next += len(rows["pixels"])
        self._count += len(rows["pixels"])
        if self._count >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        try:
            if self._waiting:
                self._flush()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        names = self._waiting[0]
        rows = {n: np.concatenate([part[n] for part in self._waiting]) for n in names}
        self._waiting, self._count = [], 0
        self._writer.write(rows)


class _Csv:
    """Table as text, with empty cells for values that do not exist."""

    def __init__(self, path: Path, store: "LabelStore", columns: Columns) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._out = csv.writer(self._file, lineterminator="\n")
        self._out.writerow(columns)

    def write(self, rows: Columns) -> None:
        texts = [_texts(values) for values in rows.values()]
        self._out.writerows(zip(*texts, strict=True))

    def close(self) -> None:
        self._file.close()


def _texts(values: npt.NDArray) -> list[Any]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return ["" if v != v else f"{v:.10g}" for v in values.tolist()]


class _GeoPackage:
    """Layer of points at the centroids of the objects."""

    def __init__(self, path: Path, store: "LabelStore", columns: Columns) -> None:
        self._path, self._place = path, to_crs(store)
        self._crs, self._there = store.crs or PIXELS, False
        self._columns = columns

    def write(self, rows: Columns) -> None:
        import shapely
        from pyogrio.raw import write

        at = self._place(np.column_stack([rows["column"], rows["row"]]) + 0.5)
        with pyogrio_errors(self._path):
            write(
                self._path,
                geometry=np.asarray(shapely.to_wkb(shapely.points(at)), object),
                field_data=list(rows.values()),
                fields=np.array(list(rows), object),
                layer=LAYER,
                driver="GPKG",
                geometry_type="Point",
                crs=self._crs,
                append=self._there,
            )
        self._there = True

    def close(self) -> None:
        if not self._there:
            self.write(self._columns)


class _Parquet:
    """Parquet file with a row group for each write."""

    def __init__(self, path: Path, store: "LabelStore", columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema(
            [
                (
                    name,
                    pa.string() if v.dtype == object else pa.from_numpy_dtype(v.dtype),
                )
                for name, v in columns.items()
            ]
        )
        self._out = pq.ParquetWriter(path, self._schema)

    def write(self, rows: Columns) -> None:
        import pyarrow as pa

        arrays = [
            pa.array(values, self._schema.field(name).type, from_pandas=True)
            for name, values in rows.items()
        ]
        self._out.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._out.close()


WRITERS: dict[str, Callable[[Path, "LabelStore", Columns], _Writer]] = {
    ".csv": _Csv,
    ".gpkg": _GeoPackage,
    ".parquet": _Parquet,
}
