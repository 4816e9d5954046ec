"""Strokes of a rectangle, and running of long changes."""

from collections.abc import Iterable

import numpy as np

from napari_uhrseg.types import Roi, Stroke


def stroke(y: int, x: int, height: int, width: int, class_id: int, level: int = 0,
           seed: int | None = None) -> Stroke:  # fmt: skip
    """Return a rectangle at a level, whole or with holes."""
    step = 2**level
    mask = np.ones((height, width), bool)
    if seed is not None:
        mask = np.random.default_rng(seed).random(mask.shape) < 0.5
    ids = np.full(mask.shape, class_id, np.uint8)
    return Stroke(Roi(y * step, x * step, height * step, width * step),
                  mask, ids, level)  # fmt: skip


def run_out(progress: Iterable[float]) -> int:
    """Run a change to its end; return the number of its shares."""
    shares = list(progress)
    assert shares == sorted(shares)
    assert not shares or shares[-1] == 1.0
    return len(shares)
