"""Long operation that the campaign disturbs, and digests of what operations write."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

Say = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Operation:
    """Long operation.

    Attributes
    ----------
    target
        Name of what it writes in the folder ``out``.
    prepare
        ``prepare(folder)`` writes its inputs.
    work
        ``work(folder, say, start)`` runs it to its end; ``say(n)`` acknowledges step
        n, and ``start`` is the first step to run.
    check
        ``check(folder, reference, said)`` raises AssertionError if what a disturbed
        operation left is damaged; ``said`` is the number of acknowledged steps. It
        returns the next step.
    result
        ``result(folder)`` returns a digest of the finished output.
    """

    target: str
    prepare: Callable[[Path], None]
    work: Callable[[Path, Say, int], None]
    check: Callable[[Path, Path, int], int]
    result: Callable[[Path], str]


def digest(*parts: object) -> str:
    """Return a hash of arrays, texts and bytes."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(repr((part.shape, part.dtype)).encode())
            part = np.ascontiguousarray(part).tobytes()
        found.update(part if isinstance(part, bytes) else repr(part).encode())
    return found.hexdigest()[:16]


def content(path: Path) -> str:
    if path.suffix == ".gpkg":  # it contains the time
        import pyogrio

        meta, _, geometry, fields = pyogrio.raw.read(path, layer="labels")
        return digest(meta["crs"], *geometry, *(f.tolist() for f in fields))
    if path.name.endswith(".ome.tif"):  # it contains a random identifier
        with tifffile.TiffFile(path) as file:
            return digest(*(level.asarray() for level in file.series[0].levels))
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    kept = [f for f in files if f.is_file()]
    return digest(*((f.name, f.read_bytes()) for f in kept))
