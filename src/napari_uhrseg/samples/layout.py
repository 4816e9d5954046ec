"""Geometry of the sample world: positions of objects, without colours.

Everything is laid out in bent coordinates (s, t), in pixels: s runs along the valleys,
t across them. Each valley has water at its middle, neutral grass up to about 200 pixels
from its middle. The surroundings that identify the water begin beyond: forest around
lakes, crops along rivers. Between two valleys lie two rows of cells. A cell's middle
is a common of the same neutral grass with an object in it. The surroundings that
identify the object also begin beyond 200 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_uhrseg.samples.noise import F32, I64, hash01

Bool = NDArray[np.bool_]

BAND = 2420.0
"""Distance from one valley to the next."""
SEGMENT = 2400.0
"""Distance of the roads that cross the valleys, between two lakes of a chain."""
CELL = 800.0
MIDDLE = BAND / 2
ROWS = (835.0, 1585.0)
BELT = 205.0
"""Half width of the grass with the water in it."""
COMMON = 215.0
"""Half side of a common, less at its corners; a 512 patch extends just beyond it."""
RING = 394.0
"""Outer radius of the identifying ring: a village, or the forest of a lake."""

EMPTY, VILLAGE, FALLOW, WOOD, ORCHARD, DEEP = range(6)
"""Kinds of cell. The object in a village's common is a building site. `DEEP` is
continuous forest, `EMPTY` contains only fields."""

LOT = (48.0, 46.0)
"""Size of a lot along s and t."""


@dataclass(slots=True)
class Place:
    """Ground at a set of points; arrays of one shape."""

    axis: F32
    """Distance from the nearest valley's axis."""
    water: F32
    """Distance to the nearest shore: positive in the water."""
    lakes: Bool
    """Whether this valley has a chain of lakes (else a river)."""
    kind: NDArray[np.uint8]
    centre: F32
    """Distance from the cell's centre, in a norm whose circles are squarish."""
    outskirts: F32
    """The same distance with more noise; it limits a village."""
    body: F32
    """Distance to the edge of the object in the common: positive inside."""
    turn: F32
    """Rotation of the cell's body, in radians."""
    along: F32
    """Position between two crossing roads, 0 on the road."""
    across: F32
    """Distance from the road in the middle between two valleys."""
    s: F32
    t: F32

    @property
    def valley(self) -> Bool:
        return self.axis < RING

    @property
    def village(self) -> Bool:
        ring = (self.centre > COMMON) & (self.outskirts < RING)
        out: Bool = (self.kind == VILLAGE) & ring & ~self.valley
        return out


def _span(index: I64) -> tuple[int, I64]:
    low = int(index.min())
    return low, np.arange(low, int(index.max()) + 1)


def _kinds(seed: int, bands: I64, cells: I64) -> NDArray[np.uint8]:
    """Return the kinds of the cells (band, row, cell).

    Three by two cells make a block, which is settled or wild. One cell of each block
    has an orchard; only its neighbours, some 800 pixels off, tell which it is.
    """
    b, r, j = bands[:, None, None], np.arange(2)[None, :, None], cells[None, None, :]
    block = j // 3
    settled = block_settled(seed, b, j)
    spot = (hash01(seed, 21, b, block) * 2).astype(int)
    orchard = (j % 3 == 1) & (r == spot)
    draw = hash01(seed, 22, b, r, j)
    kinds = np.where(settled, VILLAGE, FALLOW)
    kinds = np.where(draw > np.where(settled, 0.86, 0.78), WOOD, kinds)
    rare = settled & (hash01(seed, 23, b, block) < 0.5)
    kinds = np.where(orchard & ~rare, ORCHARD, kinds)
    # Tracts of forest and of bare fields, about ten kilometres wide, avoid a regular
    # pattern.
    p = hash01(seed, 24, np.arange(4)) * 2 * np.pi
    tract = np.sin(0.21 * j + p[0] + 1.6 * np.sin(0.55 * b + p[1])) + np.sin(
        0.8 * b + 0.3 * r - 0.13 * j + p[2] + np.sin(0.09 * j + p[3])
    )
    kinds = np.where(tract > 1.15, DEEP, kinds)
    return np.where(tract < -1.45, EMPTY, kinds).astype(np.uint8)


def block_settled(seed: int, band: I64, cell: I64) -> Bool:
    """Return whether the blocks of cells are settled, with villages, or wild.

    Settled and wild blocks alternate along a valley, so that a small scene has both.

    Parameters
    ----------
    seed : int
        Seed of the world.
    band : int64 array
        Numbers of the bands between valleys.
    cell : int64 array
        Numbers of the cells along a band; broadcasts against ``band``.

    Returns
    -------
    bool array
        True for settled blocks; of the broadcast shape.
    """
    start = np.floor(hash01(seed, 20, band) * 2).astype(np.int64)
    settled: Bool = (np.asarray(cell) // 3 + start) % 2 == 0
    return settled


def place(seed: int, s: F32, t: F32, wobble: F32 | float = 0.0) -> Place:
    """Return the ground at points of the bent plane.

    Parameters
    ----------
    seed : int
        Seed of the world.
    s, t : float32 arrays of one shape
        Bent coordinates in pixels.
    wobble : float32 array or float
        Noise of about [-1, 1] that roughens the outlines.
    """
    axis, water, lakes, along = _valleys(seed, s, t, wobble)
    f32 = np.float32
    # Cells: two rows of them between two valleys.
    band = np.floor(t / f32(BAND)).astype(np.int32)
    across = t - band.astype(f32) * f32(BAND) - f32(MIDDLE)
    cell = np.floor(s / f32(CELL)).astype(np.int32)
    (low, bands), (first, cells) = _span(band), _span(cell)
    key = ((band - low) * 2 + (across > 0)) * len(cells) + (cell - first)
    b, r, j = bands[:, None, None], np.arange(2)[None, :, None], cells[None, None, :]
    draw = [(hash01(seed, 30 + i, b, r, j).ravel() * 2 - 1).astype(f32) for i in (0, 1)]
    turns = (hash01(seed, 32, b, r, j).ravel() - 0.5).astype(f32) * f32(0.7)
    kinds = _kinds(seed, bands, cells).ravel()
    ds = s - (cell.astype(f32) + f32(0.5)) * f32(CELL) - (draw[0] * 10)[key]
    row = np.where(across > 0, f32(ROWS[1] - MIDDLE), f32(ROWS[0] - MIDDLE))
    dt = across - row - (draw[1] * 10)[key]
    ds2, dt2 = ds * ds, dt * dt
    sway = np.sin(s * f32(1 / 83) + t * f32(1 / 190)) + np.sin(t * f32(1 / 61))
    centre = np.sqrt(np.sqrt(ds2 * ds2 + dt2 * dt2)) + f32(6) * sway + f32(4) * wobble
    outskirts = np.sin(s * f32(1 / 91) - t * f32(1 / 137)) * f32(18) + centre
    kind = kinds[key]
    # Bodies from square to round, and longish.
    sizes = np.array([0, 80, 80, 0, 80, 0], f32)[kinds] * (1 + f32(0.1) * draw[1])
    stretch = (1 + 0.2 * draw[0]).astype(f32)
    cos, sin = np.cos(turns), np.sin(turns)
    a = np.abs(ds * cos[key] + dt * sin[key]) / stretch[key]
    c = np.abs(dt * cos[key] - ds * sin[key]) * stretch[key]
    square = np.maximum(a, c) + (a + c) * (np.abs(draw[0] + draw[1]) * f32(0.22))[key]
    body = sizes[key] + f32(2.5) * wobble - square
    valley = axis + f32(4) * wobble + f32(4) * sway
    return Place(
        valley, water, lakes, kind, centre, outskirts, body, turns[key], along,
        across, s, t,
    )  # fmt: skip


def _valleys(
    seed: int, s: F32, t: F32, wobble: F32 | float
) -> tuple[F32, F32, Bool, F32]:
    """Return the distance from the valley's axis, and its water.

    The water is the distance to the shore (positive in water), whether it is a lake,
    and the position along the segment between two crossing roads.
    """
    f32 = np.float32
    near = np.rint(t / f32(BAND)).astype(np.int32)
    low, bands = _span(near)
    phase = (hash01(seed, 10, bands[:, None], np.arange(3)) * 2 * np.pi).astype(f32)
    at = near - low
    u = s * f32(2 * np.pi / 1150) + phase[at, 0]
    v = s * f32(2 * np.pi / 610) + phase[at, 1]
    slope = f32(0.30) * np.cos(u) + f32(0.23) * np.cos(v)
    off = t - near.astype(f32) * f32(BAND) - f32(55) * np.sin(u) - f32(22) * np.sin(v)
    axis = np.abs(off) / np.sqrt(1 + slope * slope)
    lakes = (near + (int(hash01(seed, 11, 0) * 2))) % 2 == 0
    # Lakes end on either side of each crossing road; rivers do not end.
    segment = np.rint(s / f32(SEGMENT)).astype(np.int32)
    along = s - segment.astype(f32) * f32(SEGMENT)
    low, segments = _span(segment)
    gap = (150 + 130 * hash01(seed, 12, bands[:, None], segments)).astype(f32)
    beyond = np.maximum(gap[at, segment - low] - np.abs(along), 0) * lakes
    width = f32(63) + f32(6) * np.sin(s * f32(2 * np.pi / 430) + phase[at, 2])
    water = width + f32(3.5) * wobble - np.hypot(axis, beyond)
    return axis, water, lakes, along


@dataclass(slots=True)
class Houses:
    """Lots under the pixels, with their houses if there are any."""

    wall: F32
    """Distance to the nearest wall of the lot's house: negative inside."""
    ridge: F32
    """Signed distance from the roof's ridge, over the roof's half width."""
    facing: F32
    """The direction that the positive side of the roof faces, in (s, t) radians."""
    colour: NDArray[np.uint8]
    street: F32
    """Distance from the middle of the nearest village street."""


def houses(seed: int, here: Place) -> Houses:
    """Place streets and houses in the villages; nothing is cut off at their edges."""
    f32 = np.float32
    i = np.floor(here.s / f32(LOT[0])).astype(np.int32)
    k = np.floor(here.t / f32(LOT[1])).astype(np.int32)
    (i0, ii), (k0, kk) = _span(i), _span(k)
    a, b = ii[:, None], kk[None, :]
    draw = [hash01(seed, 40 + n, a, b) for n in range(7)]
    # A street after every second row of lots, so houses move away from it.
    cs = (a + 0.5) * LOT[0] + 5 * (draw[0] - 0.5)
    ct = (b + 0.5) * LOT[1] + np.where(b % 2 == 0, 4.0, -4.0) + 3 * (draw[1] - 0.5)
    there = place(seed, cs.astype(f32), ct.astype(f32))
    built = (
        there.village
        & (there.centre > COMMON + 31)
        & (there.outskirts < RING - 28)
        & (there.axis > RING + 30)
        & (np.abs(there.along) > 40)
        & (np.abs(there.across) > 40)
        & (a % 5 != 0)
        & (draw[2] < 0.93)
    )
    wide = np.where(draw[3] < 0.5, 1.0, 0.0)
    half_s = np.where(built, 13 + 3.5 * draw[4] + 2 * wide, 0).astype(f32)
    half_t = np.where(built, 13 + 2.5 * draw[5] - 1.5 * wide, 0).astype(f32)
    angle = ((draw[6] - 0.5) * 0.24).astype(f32)
    key = (i - i0) * len(kk) + (k - k0)
    flat = [x.astype(f32).ravel() for x in (cs, ct, np.cos(angle), np.sin(angle))]
    ds, dt = here.s - flat[0][key], here.t - flat[1][key]
    c, n = flat[2][key], flat[3][key]
    p, q = ds * c + dt * n, dt * c - ds * n
    hs, ht = half_s.ravel()[key], half_t.ravel()[key]
    wall = np.maximum(np.abs(p) - hs, np.abs(q) - ht)
    wall[hs == 0] = 100
    lengthways = (half_s >= half_t).ravel()[key]
    ridge = np.where(lengthways, q / np.maximum(ht, 1), p / np.maximum(hs, 1))
    facing = np.where(lengthways, f32(np.pi / 2), f32(0)) + angle.ravel()[key]
    colour = (hash01(seed, 47, a, b) * 6).astype(np.uint8).ravel()[key]
    mod_t = here.t - np.rint(here.t / f32(2 * LOT[1])) * f32(2 * LOT[1])
    mod_s = here.s - np.floor(here.s / f32(5 * LOT[0])) * f32(5 * LOT[0])
    street = np.minimum(np.abs(mod_t), np.abs(mod_s - f32(LOT[0] / 2)))
    edge = np.minimum(
        np.abs(here.centre - f32(COMMON + 9)), np.abs(here.outskirts - f32(RING - 8))
    )
    street = np.where(here.village, np.minimum(street, edge - f32(2)), f32(100))
    return Houses(wall, ridge, facing, colour, street)
