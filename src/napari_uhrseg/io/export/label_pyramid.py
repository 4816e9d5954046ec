"""Pyramids of labels and confidence, read in squares for the raster exporters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.types import Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

SMALLEST = 512  # px, largest side of the last level


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Levels of uint8, level 0 first; each has half the size of the previous one.

    Attributes
    ----------
    shapes
        (height, width) of each level in pixels; halves are rounded up.
    read
        ``read(roi, level)`` returns a rectangle of a level, in pixels of the level.
    """

    shapes: tuple[tuple[int, int], ...]
    read: Callable[[Roi, int], Labels]

    @property
    def pixels(self) -> int:
        """Number of pixels of all levels."""
        return sum(height * width for height, width in self.shapes)

    def squares(self, level: int) -> Iterator[tuple[Roi, Labels]]:
        """Yield a level in squares of at most 1024 px per side, row by row."""
        height, width = self.shapes[level]
        for y in range(0, height, STORE_CHUNK):
            for x in range(0, width, STORE_CHUNK):
                roi = Roi(y, x, STORE_CHUNK, STORE_CHUNK).intersect(
                    Roi(0, 0, height, width)
                )
                yield roi, self.read(roi, level)


def shown_pyramid(store: "LabelStore", count: int | None = None) -> Pyramid:
    """Return the displayed labels; a coarser pixel is the majority of its children.

    The pyramid has ``count`` levels, by default down to at most 512 px per side.
    """

    def read(roi: Roi, level: int) -> Labels:
        f = 2**level
        return store.read_labels(
            Roi(roi.y * f, roi.x * f, roi.height * f, roi.width * f), level
        )

    return _extended(store, read, coarser_labels, count)


def confidence_pyramid(store: "LabelStore") -> Pyramid:
    """Return the confidence: 1 to 255, or 0 without a prediction."""
    from napari_uhrseg.io.labels import pyramid

    def read(roi: Roi, level: int) -> Labels:
        return pyramid.read_array(store.confidence[level], roi.slices)

    return _extended(store, read, coarser_confidence, None)


def _extended(
    store: "LabelStore",
    read: Callable[[Roi, int], Labels],
    coarser: Callable[[Labels], Labels],
    count: int | None,
) -> Pyramid:
    """Return the levels of the store, with coarser ones computed from its last."""
    shapes = [(int(a.shape[0]), int(a.shape[1])) for a in store.prediction]
    kept = len(shapes)
    last = read(Roi(0, 0, *shapes[-1]), kept - 1)
    more: list[Labels] = []
    while len(shapes) < count if count else max(shapes[-1]) > SMALLEST:
        last = coarser(last)
        more.append(last)
        shapes.append((last.shape[0], last.shape[1]))
    return Pyramid(
        tuple(shapes[:count]),
        lambda roi, k: read(roi, k) if k < kept else more[k - kept][roi.slices],
    )
