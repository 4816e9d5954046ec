"""Corrected regions: groups of corrections that lie apart from each other.

Fine-tuning separates its sites in the same way, by distance. The cells of
`CorrectionCounts` give groups of neighbouring cells first. Each group is then divided
on a finer level of the corrections. Groups that no change touches stay in memory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.counts.correction_counts import (
    CorrectionCounts,
    resolved,
    runs_of_cells,
)
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.types import CorrectedRegion, Labels, Roi

REGION_DISTANCE = 32  # pixels between two regions
FINE = 3  # level on which groups are divided: 8 pixels
MAX_SIDE = 2048  # largest side of a group in pixels of the level; else a coarser one

Numbers = npt.NDArray[np.int32]


class RegionFinder:
    """Finder of corrected regions that are more than `REGION_DISTANCE` pixels apart.

    In a group that is wider than 16,000 pixels, the distance is that of the finest
    level on which the group has at most `MAX_SIDE` pixels per side.

    Parameters
    ----------
    levels
        Levels of the corrections, level 0 first.
    """

    def __init__(self, levels: Sequence[zarr.Array]) -> None:
        self._levels = levels
        self._image = Roi(0, 0, levels[0].shape[0], levels[0].shape[1])
        self._known: dict[tuple[Roi, ...], tuple[CorrectedRegion, ...]] = {}

    def forget(self, roi: Roi) -> None:
        """Forget the groups that a changed rectangle touches."""
        for parts in list(self._known):
            if any(part.intersect(roi).area for part in parts):
                del self._known[parts]

    def find(
        self, counts: CorrectionCounts, aliases: Mapping[int, int]
    ) -> tuple[CorrectedRegion, ...]:
        """Return the regions, the largest first. Groups in damaged chunks stay whole.

        Parameters
        ----------
        counts
            Corrected pixels by class and cell.
        aliases
            Merged class id to the id of the displayed class.
        """
        groups = {group.parts: group for group in counts.groups()}
        self._known = {k: v for k, v in self._known.items() if k in groups}
        undivided: dict[tuple[Roi, ...], tuple[CorrectedRegion, ...]] = {}
        for parts, group in groups.items():
            if parts in self._known:
                continue
            try:
                self._known[parts] = tuple(self._divided(group, counts))
            except StoreError:  # a damaged chunk, which painting reports
                undivided[parts] = (group,)
        found = [
            CorrectedRegion(r.roi, resolved(r.pixels, aliases), r.parts)
            for parts in groups
            for r in undivided.get(parts) or self._known[parts]
        ]
        return tuple(
            sorted(
                (r for r in found if r.pixels), key=lambda r: -sum(r.pixels.values())
            )
        )

    def _divided(
        self, group: CorrectedRegion, counts: CorrectionCounts
    ) -> Iterator[CorrectedRegion]:
        """Yield the regions of a group of cells."""
        level = _Level.of(self._levels, group, counts.cell)
        numbers = level.numbers()
        count = int(numbers.max(initial=0))
        if count <= 1:
            yield group
            return
        pixels: list[dict[int, int]] = [{} for _ in range(count + 1)]
        for part in group.parts:
            for cell in part.tiles(counts.cell):
                self._count(cell, level, numbers, counts, pixels)
        parts: list[list[Roi]] = [[] for _ in range(count + 1)]
        for number, row, first, last in runs_of_cells(numbers):
            box = Roi(row, first, 1, last - first + 1)
            parts[number].append(level.whole(box).intersect(self._image))
        for own, area in zip(pixels[1:], parts[1:], strict=True):
            bounds = area[0]
            for part in area[1:]:
                bounds = bounds.union(part)
            yield CorrectedRegion(bounds, dict(sorted(own.items())), tuple(area))

    def _count(
        self,
        cell: Roi,
        level: "_Level",
        numbers: Numbers,
        counts: CorrectionCounts,
        pixels: list[dict[int, int]],
    ) -> None:
        """Add the corrected pixels of a cell to the regions that they belong to."""
        there = numbers[level.inside(cell).slices]
        present = np.unique(there[level.corrected[level.inside(cell).slices]])
        if len(present) == 1:
            own = counts.in_cell(cell)
            found = [(int(present[0]), k, n) for k, n in own.items()]
        else:
            labels = read_array(self._levels[0], cell.slices)
            found = list(_pairs(labels, there, 1 << level.number))
        for number, class_id, count in found:
            pixels[number][class_id] = pixels[number].get(class_id, 0) + count


def _pairs(
    labels: Labels, numbers: Numbers, step: int
) -> Iterator[tuple[int, int, int]]:
    """Yield region, class and number of pixels of the corrections in a cell."""
    height, width = labels.shape
    fine = numbers.repeat(step, 0).repeat(step, 1)[:height, :width]
    there = labels != 0
    pairs, counts = np.unique(
        np.stack([fine[there], labels[there]]), axis=1, return_counts=True
    )
    yield from zip(*pairs.tolist(), counts.tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class _Level:
    """Corrections of a group on a level.

    ``box`` is the group in pixels of the level, ``corrected`` are its pixels.
    """

    number: int
    box: Roi
    corrected: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, levels: Sequence[zarr.Array], group: CorrectedRegion, cell: int
    ) -> "_Level":
        """Read the finest level on which the group is small enough."""
        side = max(group.roi.height, group.roi.width)
        coarsest = min(len(levels) - 1, int(math.log2(cell)))
        number = max(FINE, math.ceil(math.log2(side / MAX_SIDE)))
        number = min(number, coarsest)
        step = 1 << number
        box = group.roi.at_scale(step)
        mask = np.zeros((box.height, box.width), bool)
        for part in group.parts:
            at = part.at_scale(step)
            labels = read_array(levels[number], at.slices)
            mask[at.shift(-box.y, -box.x).slices] = labels != 0
        return cls(number, box, mask)

    def numbers(self) -> Numbers:
        """Return the number of the region of each pixel, from 1; 0: none is near.

        Pixels within half of the distance are dilated, so that regions that are
        closer than the distance touch each other.
        """
        from scipy.ndimage import maximum_filter
        from skimage.measure import label

        radius = math.ceil(REGION_DISTANCE / (2 << self.number) - 0.5)
        near = maximum_filter(self.corrected, 2 * max(0, radius) + 1, mode="constant")
        return np.asarray(label(near, connectivity=2), np.int32)

    def inside(self, roi: Roi) -> Roi:
        """Return a level-0 rectangle in pixels of the box."""
        return roi.at_scale(1 << self.number).shift(-self.box.y, -self.box.x)

    def whole(self, box: Roi) -> Roi:
        """Return pixels of the box as a level-0 rectangle."""
        step = 1 << self.number
        at = box.shift(self.box.y, self.box.x)
        return Roi(at.y * step, at.x * step, at.height * step, at.width * step)
