"""Majority filter over strips of labels."""

from collections.abc import Iterable, Iterator

import numpy as np

from napari_uhrseg.types import Labels, Roi


def majority_strips(
    strips: Iterable[tuple[Roi, Labels]], radius: int
) -> Iterator[tuple[Roi, Labels]]:
    """Yield strips in which each pixel has the most frequent label of its square.

    The square has ``2 * radius + 1`` pixels a side and ends at the border of the image.
    No label counts as a label, and the lowest label wins a tie. The result is that of
    ``skimage.filters.rank.majority`` on the whole image.

    Parameters
    ----------
    strips
        Rectangles of one width, directly below each other, with uint8 labels.
    radius
        Pixels in each direction, at least 1.

    Yields
    ------
    roi, labels
        Strips of the same width, of other heights. The memory is that of a strip and of
        ``2 * radius`` rows.
    """
    rows: Labels | None = None
    first, done = Roi(0, 0, 0, 0), 0  # rows of the buffer that are done
    for roi, labels in strips:
        if rows is None:
            rows, first = labels, roi
        else:
            rows = np.concatenate([rows, labels])
        ready = len(rows) - radius
        if ready > done:
            yield _filtered(rows, first, done, ready, radius)
            drop = max(0, ready - radius)
            rows, done = rows[drop:], ready - drop
            first = first.shift(drop, 0)
    if rows is not None and len(rows) > done:
        yield _filtered(rows, first, done, len(rows), radius)


def _filtered(
    rows: Labels, first: Roi, start: int, stop: int, radius: int
) -> tuple[Roi, Labels]:
    """Return some rows of a buffer after the filter, with their rectangle."""
    from skimage.filters.rank import majority

    top = max(0, start - radius)
    side = 2 * radius + 1
    found = majority(rows[top : stop + radius], np.ones((side, side), np.uint8))
    roi = Roi(first.y + start, first.x, stop - start, rows.shape[1])
    return roi, found[start - top : stop - top]
