"""Smoothing of outlines whose shared borders stay shared.

Corners are cut as by Chaikin (1974), in two rounds, but at a bounded distance from the
corner: large objects keep their straight sides. A corner is cut only if

- both of its sides are shared by two polygons, so that the neighbour cuts it too, and
  no third side meets there, and
- the triangle that is cut off touches no other side, so that outlines never cross.

Both conditions, and the position of the new corners, are the same for the two polygons
of a border. The result is a coverage as the input is.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

ROUNDS = 2
SHARE = 0.25  # of a side that is cut off at each end
SAFE = 1.0
"""Pixels by which outlines along the sides of pixels may move without a check.

Then all triangles lie within the pixels beside a side, where no other side is.
"""


def smooth_coverage(
    polygons: Sequence[Sequence[Points]], reach: float, *, along_pixels: bool = False
) -> list[list[Points]]:
    """Return polygons with smooth outlines.

    Parameters
    ----------
    polygons
        Rings of each polygon, not closed, of one map: the polygons do not overlap and
        have the same corners on shared borders.
    reach
        Distance in pixels by which a point of an outline may move, above 0.
    along_pixels
        True if all sides are sides of pixels. Short distances are then faster.

    Returns
    -------
    list of list of (corners, 2) float64
        The rings of each polygon. Borders to polygons that are not given keep their
        corners.
    """
    rings = [ring for polygon in polygons for ring in polygon]
    if not rings:
        return [[] for _ in polygons]
    points = np.concatenate(rings)
    lengths = np.array([len(ring) for ring in rings])
    distance = reach * 2 / 3  # the distances of both rounds add up to `reach`
    checks = not (along_pixels and reach <= SAFE)
    for _ in range(ROUNDS):
        points, lengths = _cut(points, lengths, distance, checks)
        distance /= 2
    found = iter(np.split(points, np.cumsum(lengths)[:-1]))
    return [[next(found) for _ in polygon] for polygon in polygons]


def _cut(
    points: Points, lengths: Integers, distance: float, checks: bool
) -> tuple[Points, Integers]:
    """Cut the corners of rings once.

    Parameters
    ----------
    points
        Corners of all rings.
    lengths
        Number of corners of each ring.
    distance
        Largest distance of a cut from the corner.
    checks
        If False, no triangle can touch another side.

    Returns
    -------
    The new corners and lengths.
    """
    before, after = _neighbours(lengths)
    _, number = np.unique(points[:, 0] + 1j * points[:, 1], return_inverse=True)
    free = _free_corners(number, after, before)
    first = _toward(points, points[before], distance)
    second = _toward(points, points[after], distance)
    if checks:
        free &= _clear(points, first, second, number, after, free)
    count = np.where(free, 2, 1)
    at = np.cumsum(count) - count
    made = np.empty((int(count.sum()), 2))
    made[at] = np.where(free[:, None], first, points)
    made[at[free] + 1] = second[free]
    starts = np.cumsum(lengths) - lengths
    return made, np.add.reduceat(count, starts)


def _neighbours(lengths: Integers) -> tuple[Integers, Integers]:
    """Return the index of the corner before and after each corner, in its ring."""
    total = int(lengths.sum())
    before, after = np.arange(total) - 1, np.arange(total) + 1
    ends = np.cumsum(lengths)
    starts = ends - lengths
    before[starts], after[ends - 1] = ends - 1, starts
    return before, after


def _free_corners(number: Integers, after: Integers, before: Integers) -> Flags:
    """Return the corners with two sides that two polygons share.

    Parameters
    ----------
    number
        Number of the place of each corner.
    after, before
        Neighbours of each corner.
    """
    one, other = number, number[after]
    places = int(number.max()) + 1
    key = np.minimum(one, other) * places + np.maximum(one, other)
    sides, which, times = np.unique(key, return_inverse=True, return_counts=True)
    ends = np.concatenate([sides // places, sides % places])
    degree = np.bincount(ends, minlength=places)
    shared = times[which] == 2  # of the side after each corner
    free: Flags = (degree[number] == 2) & shared & shared[before]
    return free


def _toward(points: Points, others: Points, distance: float) -> Points:
    """Return points on the sides from corners, at most that far from them."""
    sides = others - points
    long = np.hypot(*sides.T)
    share = np.minimum(SHARE, distance / np.maximum(long, 1e-12))
    found: Points = points + sides * share[:, None]
    return found


def _clear(
    points: Points,
    first: Points,
    second: Points,
    number: Integers,
    after: Integers,
    free: Flags,
) -> Flags:
    """Return the corners whose triangle touches no side but its own two.

    Parameters
    ----------
    points
        The corners.
    first, second
        New corners beside each corner.
    number
        Number of the place of each corner.
    after
        Index of the next corner.
    free
        Corners that may be cut.
    """
    import shapely

    _, once = np.unique(number, return_index=True)
    asked = once[free[once]]  # one corner of each place
    if not len(asked):
        return free
    triangles = shapely.polygons(
        np.stack([points[asked], first[asked], second[asked]], 1)
    )
    key = np.sort(np.stack([number, number[after]]), axis=0)
    _, kept = np.unique(key[0] * (key.max() + 1) + key[1], return_index=True)
    sides = shapely.linestrings(np.stack([points[kept], points[after[kept]]], 1))
    pairs = shapely.STRtree(sides).query(triangles, predicate="intersects")
    triangle, side = asked[pairs[0]], kept[pairs[1]]
    own = (number[side] == number[triangle]) | (number[after[side]] == number[triangle])
    # corners at one place are cut or kept together
    refused = np.zeros(int(number.max()) + 1, bool)
    refused[number[triangle[~own]]] = True
    return free & ~refused[number]
