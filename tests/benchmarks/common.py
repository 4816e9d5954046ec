"""What the benchmarks measure with: the samples, peak memory, medians."""

import resource
from pathlib import Path

MB = 1024 * 1024


def sample(name: str) -> Path:
    from napari_uhrseg.samples import data_dir

    return next(data_dir().rglob(name))


def peak_bytes() -> int:
    """The most memory this process has held so far (Linux counts in KB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
