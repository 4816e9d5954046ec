"""Colours and labels of the sample world, on the pixels of one tile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.samples.layout import (
    BAND,
    BELT,
    CELL,
    COMMON,
    DEEP,
    EMPTY,
    FALLOW,
    ORCHARD,
    RING,
    VILLAGE,
    WOOD,
    Bool,
    Houses,
    Place,
    block_settled,
    houses,
    place,
)
from napari_uhrseg.samples.noise import (
    F32,
    F64,
    SUN,
    hash01,
    lattice_noise,
    textures,
    tiled,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

FARMLAND, FOREST, LAKE, RIVER, ROAD, BUILDING = 1, 2, 3, 4, 5, 6
GARDEN, FALLOW_SOIL, BUILDING_SITE, ORCHARDS, ALLOTMENTS = 7, 8, 9, 10, 11

HALO = 24
"""Pixels computed around a tile, whose shadows may fall into it."""

TINY = 16
"""Downsample above which houses and trees are drawn in a mean colour."""

CROPS = [
    (142, 148, 84), (168, 160, 98), (112, 134, 70), (186, 172, 116), (128, 142, 82),
    (98, 122, 64), (176, 156, 112), (152, 152, 92), (120, 130, 78), (196, 184, 130),
]  # fmt: skip
ROOFS = [
    (158, 84, 62), (140, 76, 60), (172, 102, 74), (104, 98, 98), (132, 128, 124),
    (150, 92, 70),
]  # fmt: skip
OTHERS = {
    "grass": (116, 136, 76), "soil": (160, 134, 104), "water": (62, 84, 92),
    "asphalt": (134, 132, 130), "line": (214, 212, 204), "verge": (138, 142, 92),
    "track": (170, 156, 124), "bank": (112, 116, 74), "town": (130, 128, 92),
}  # fmt: skip
FORESTS = [(70, 92, 52), (82, 102, 56), (62, 86, 54), (92, 108, 60)]
ROOF0 = len(CROPS)
FOREST0 = ROOF0 + len(ROOFS)
OTHER0 = FOREST0 + len(FORESTS)
MATERIAL = {name: OTHER0 + i for i, name in enumerate(OTHERS)}
PALETTE = np.array([*CROPS, *ROOFS, *FORESTS, *OTHERS.values()], np.float32)


def _shift(mask: Bool, dy: int, dx: int) -> Bool:
    """Return the mask moved by (dy, dx), both at most 0."""
    out = np.zeros_like(mask)
    h, w = mask.shape
    out[: h + dy, : w + dx] = mask[-dy:, -dx:]
    return out


def _shadow(tall: Bool, length: float) -> Bool:
    """Return a mask of the ground in the shadow of tall objects."""
    steps = {
        (-round(SUN[0] * r), -round(SUN[1] * r))
        for r in np.linspace(1, length, max(1, round(length / 1.5)))
    }
    out = np.zeros_like(tall)
    for dy, dx in steps:
        out |= _shift(tall, dy, dx)
    return out


def _fade(period: float, downsample: float) -> float:
    """Return the contrast, 0 to 1, of a pattern at a downsample near its period."""
    return float(np.clip(1.5 - downsample / (period / 3), 0, 1))


@dataclass(slots=True)
class _Canvas:
    """Labels, materials and brightness of a tile with its halo, and its noise."""

    ys: F64
    xs: F64
    d: int
    """Level-0 pixels per pixel of the level."""
    labels: NDArray[np.uint8]
    mat: NDArray[np.uint8]
    """Row of `PALETTE` of each pixel."""
    shade: F32
    fine: F32
    mottle: F32
    wobble: F32
    canopy: F32
    crown: F32


class Painter:
    """Painter of the tiles of one world, without state beyond the seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.angle = float(hash01(seed, 1, 0)) * 2 * math.pi

    def bend(self, ys: F64, xs: F64) -> tuple[F32, F32]:
        """Return the bent coordinates (s, t) of an axis-parallel grid, float32."""
        c, n = math.cos(self.angle), math.sin(self.angle)
        s = (c * xs[None, :] + n * ys[:, None]).astype(np.float32)
        t = (c * ys[:, None] - n * xs[None, :]).astype(np.float32)
        for i, (scale, amount) in enumerate(((26000, 1500), (5300, 190), (1300, 28))):
            a = np.float32(amount)
            s += a * lattice_noise(self.seed, 2 + 2 * i, ys, xs, scale)
            t += a * lattice_noise(self.seed, 3 + 2 * i, ys, xs, scale)
        return s, t

    def tile(
        self, top: int, left: int, height: int, width: int, downsample: int
    ) -> tuple[F32, NDArray[np.uint8]]:
        """Paint a tile of one level.

        Parameters
        ----------
        top, left : int
            First row and column, in pixels of the level.
        height, width : int
            Size of the tile in pixels of the level.
        downsample : int
            Level-0 pixels per pixel of the level, a power of two.

        Returns
        -------
        tuple
            (height, width, 3) float32 colours and (height, width) uint8 class ids.
        """
        canvas = self._canvas(top - HALO, left - HALO, height, width, downsample)
        here = place(self.seed, *self.bend(canvas.ys, canvas.xs), canvas.wobble)
        canvas.labels[here.village] = GARDEN
        crops = self._crops(here, here.village)
        self._paint_crops(here, crops, canvas)
        forest = self._forest(canvas, here)
        lots = None
        if here.village.any() and downsample <= TINY:
            lots = houses(self.seed, here)
        free = ~(crops | forest) & (here.water < -16) & (here.body < -26)
        free &= np.minimum(np.abs(here.along), np.abs(here.across)) > 28
        if lots is not None:
            free &= (lots.street > 15) & (lots.wall > 10)
        soft = np.zeros_like(free)
        if downsample <= TINY:
            soft = self._trees(free, canvas)
        else:
            canvas.mat[here.village] = MATERIAL["town"]
        self._paint_commons(here, canvas)
        canvas.labels[forest] = FOREST
        canvas.mat[forest] = (FOREST0 + (canvas.crown * 3.999).astype(np.uint8))[forest]
        canvas.shade[forest] = (canvas.canopy + 0.06 * canvas.mottle)[forest]
        self._paint_water(here, canvas)
        tall = forest | soft
        self._paint_built(here, lots, canvas, tall)
        if downsample <= 8:
            shadow = _shadow(tall, 10 / downsample) & ~tall
            canvas.shade[shadow] -= np.float32(0.42)
        rgb = self._finish(canvas)
        inner = (slice(HALO, HALO + height), slice(HALO, HALO + width))
        return rgb[inner], np.ascontiguousarray(canvas.labels[inner])

    def _canvas(
        self, y0: int, x0: int, height: int, width: int, downsample: int
    ) -> _Canvas:
        """Return farmland with grass at a corner, for a tile and its halo."""
        d = downsample
        rows, cols = height + 2 * HALO, width + 2 * HALO
        tex = textures(self.seed, d)
        names = ("fine", "mottle", "wobble", "canopy", "crown")
        noise = {k: tiled(getattr(tex, k), y0, x0, rows, cols) for k in names}
        shade = np.float32(0.07) * noise["mottle"] + np.float32(0.035) * noise["fine"]
        return _Canvas(
            ys=(np.arange(y0, y0 + rows, dtype=np.float64) + 0.5) * d - 0.5,
            xs=(np.arange(x0, x0 + cols, dtype=np.float64) + 0.5) * d - 0.5,
            d=d,
            labels=np.full((rows, cols), FARMLAND, np.uint8),
            mat=np.full((rows, cols), MATERIAL["grass"], np.uint8),
            shade=shade,
            **noise,
        )

    def _paint_commons(self, here: Place, canvas: _Canvas) -> None:
        """Paint building sites, fallow soil, orchards and allotments."""
        body = (here.body > 0) & (here.axis > RING)
        soil = body & ((here.kind == VILLAGE) | (here.kind == FALLOW))
        trees = body & (here.kind == ORCHARD)
        sites = np.where(here.kind == VILLAGE, BUILDING_SITE, FALLOW_SOIL)
        canvas.labels[soil] = sites[soil]
        gardens = np.where(self._settled(here), ALLOTMENTS, ORCHARDS)
        canvas.labels[trees] = gardens[trees]
        canvas.mat[soil] = MATERIAL["soil"]
        canvas.shade[soil] = (0.10 * canvas.mottle + 0.06 * canvas.fine)[soil]
        self._orchard(here, trees, canvas)

    def _paint_water(self, here: Place, canvas: _Canvas) -> None:
        water = here.water > 0
        canvas.labels[water] = np.where(here.lakes, LAKE, RIVER)[water]
        bank = (here.water > -7) & ~water
        canvas.mat[bank] = MATERIAL["bank"]
        canvas.mat[water] = MATERIAL["water"]
        deep = np.minimum(here.water, 40) * np.float32(-0.0045) + np.float32(0.1)
        canvas.shade[water] = (deep + 0.03 * canvas.mottle + 0.015 * canvas.fine)[water]

    def _paint_built(
        self, here: Place, lots: Houses | None, canvas: _Canvas, tall: Bool
    ) -> None:
        """Paint streets, roads and houses; add houses to the tall objects."""
        if lots is not None:
            street = lots.street < 6
            canvas.labels[street] = ROAD
            canvas.mat[street] = MATERIAL["asphalt"]
            canvas.shade[street] = (0.03 * canvas.fine + 0.03 * canvas.mottle)[street]
        self._roads(here, canvas, tall)
        if lots is not None:
            house = lots.wall < 0
            canvas.labels[house] = BUILDING
            canvas.mat[house] = (lots.colour + ROOF0)[house]
            facing = lots.facing + np.float32(self.angle)
            sun = np.cos(facing) * SUN[1] + np.sin(facing) * SUN[0]
            roof = 0.2 * np.sign(lots.ridge) * sun + 0.03 * canvas.fine
            canvas.shade[house] = roof[house]
            tall |= house

    def _settled(self, here: Place) -> Bool:
        band = np.floor(here.t / np.float32(BAND)).astype(np.int64)
        cell = np.floor(here.s / np.float32(CELL)).astype(np.int64)
        b0, j0 = int(band.min()), int(cell.min())
        b, j = np.arange(b0, band.max() + 1), np.arange(j0, cell.max() + 1)
        blocks = block_settled(self.seed, b[:, None], j[None, :])
        out: Bool = blocks[band - b0, cell - j0]
        return out

    def _crops(self, here: Place, village: Bool) -> Bool:
        common = (here.centre < COMMON) & (here.kind != EMPTY)
        out: Bool = ~(village | common | (here.axis < BELT))
        return out

    def _paint_crops(self, here: Place, crops: Bool, canvas: _Canvas) -> None:
        f32, mat, shade = np.float32, canvas.mat, canvas.shade
        # Strips of 110 to 200 pixels.
        bent = here.t + f32(60) * np.sin(here.t * f32(1 / 215))
        strip = np.floor(bent * f32(1 / 155)).astype(np.int32)
        k0 = int(strip.min())
        kk = np.arange(k0, int(strip.max()) + 1)
        off = (hash01(self.seed, 50, kk) * 900).astype(f32)
        length = (130 + 190 * hash01(self.seed, 51, kk)).astype(f32)
        pos = (here.s + off[strip - k0]) / length[strip - k0]
        parcel = np.floor(pos).astype(np.int32)
        j0 = int(parcel.min())
        jj = np.arange(j0, int(parcel.max()) + 1)
        key = (strip - k0) * len(jj) + (parcel - j0)

        def draw(salt: int) -> F64:
            return hash01(self.seed, salt, kk[:, None], jj[None, :]).ravel()

        crop = (draw(52) * len(CROPS)).astype(np.uint8)
        mat[crops] = crop[key][crops]
        light = (0.16 * (draw(53) - 0.5)).astype(f32)[key]
        across = (draw(54) < 0.6).astype(f32)[key]
        q = here.t * across + here.s * (1 - across)
        rate = (2 * np.pi / (5 + 4 * draw(55))).astype(f32)[key]
        amount = (0.03 + 0.05 * draw(56)).astype(f32)[key] * f32(_fade(7, canvas.d))
        rows = amount * np.sin(q * rate)
        # The wheel tracks of tractors, every 44 pixels, and bare margins.
        wheel = np.abs(q - np.rint(q * f32(1 / 44)) * f32(44))
        tracks = f32(-0.09 * _fade(12, canvas.d)) * ((wheel > 2.2) & (wheel < 4.4))
        edge_t = np.abs(bent - np.rint(bent * f32(1 / 155)) * f32(155))
        edge_s = np.abs(pos - np.rint(pos)) * length[strip - k0]
        edge = np.minimum(edge_t, edge_s)
        margin = crops & (edge < 2.5)
        value = shade + f32(0.5) * light + rows + tracks + f32(0.03) * canvas.mottle
        shade[crops] = value[crops]
        mat[margin] = MATERIAL["verge"]
        shade[margin] -= f32(0.08)

    def _trees(self, free: Bool, canvas: _Canvas) -> Bool:
        """Scatter single trees evenly over all grass, so that they mark no class."""
        ys, xs = canvas.ys, canvas.xs
        pitch = 46.0
        i, j = (np.floor(a / pitch).astype(np.int64) for a in (ys, xs))
        ii, jj = (np.arange(a[0], a[-1] + 1) for a in (i, j))
        a, b = ii[:, None], jj[None, :]
        cy = (a + 0.3 + 0.4 * hash01(self.seed, 60, a, b)) * pitch
        cx = (b + 0.3 + 0.4 * hash01(self.seed, 61, a, b)) * pitch
        size = hash01(self.seed, 62, a, b)
        r = np.where(size < 0.3, 5 + 24 * size, 0)
        step = ys[1] - ys[0]
        at_y = np.clip((cy - ys[0]) / step, 0, len(ys) - 1).astype(int)
        at_x = np.clip((cx - xs[0]) / step, 0, len(xs) - 1).astype(int)
        r *= free[at_y, at_x]
        pick = np.ix_(i - ii[0], j - jj[0])
        dy = (ys[:, None] - cy[pick]).astype(np.float32)
        dx = (xs[None, :] - cx[pick]).astype(np.float32)
        r2 = (r * r).astype(np.float32)[pick]
        tree: Bool = dy * dy + dx * dx < r2
        lit = (dy * np.float32(SUN[0]) + dx * np.float32(SUN[1])) * np.float32(0.03)
        canvas.mat[tree] = FOREST0 + 1
        canvas.shade[tree] = (lit + 0.5 * canvas.canopy)[tree]
        return tree

    def _orchard(self, here: Place, where: Bool, canvas: _Canvas) -> None:
        if not where.any():
            return
        mat, shade, fine = canvas.mat, canvas.shade, canvas.fine
        c, n = np.cos(here.turn), np.sin(here.turn)
        p, q = here.s * c + here.t * n, here.t * c - here.s * n
        p -= np.rint(p / 13) * 13
        q -= np.rint(q / 17) * 17
        dist = p * p + q * q
        crown = where & (dist < 24)
        mat[where] = MATERIAL["verge"]
        mat[crown] = FOREST0 + 3
        ang = np.float32(self.angle)
        lit = (p * np.cos(ang) - q * np.sin(ang)) * SUN[1]
        lit += (p * np.sin(ang) + q * np.cos(ang)) * SUN[0]
        shade[where] = (0.04 * fine - 0.25 * _fade(17, canvas.d) * (dist < 50))[where]
        shade[crown] = (0.05 * lit + 0.05 * fine)[crown]

    def _forest(self, canvas: _Canvas, here: Place) -> Bool:
        # Copses in the fields, away from all objects with a class of their own.
        field = lattice_noise(self.seed, 70, canvas.ys, canvas.xs, 210)
        field = field + np.float32(0.1) * canvas.wobble
        shore = (here.axis > BELT) & (here.axis < RING + 60 * field) & here.lakes
        edge = np.where(here.kind == DEEP, np.float32(9e9), 290 + 50 * field)
        wood = ((here.kind == WOOD) | (here.kind == DEEP)) & (here.centre < edge)
        room = np.minimum(here.outskirts - (RING + 8), here.axis - (RING + 40))
        copse = field > 0.62 - 0.01 * np.clip(room, -100, 30)
        out: Bool = (
            shore | (wood & (here.axis > RING + 30 + 60 * field)) | copse
        ) & ~here.village
        return out

    def _roads(self, here: Place, canvas: _Canvas, tall: Bool) -> None:
        labels, mat, shade = canvas.labels, canvas.mat, canvas.shade
        fine, mottle = canvas.fine, canvas.mottle
        off = np.minimum(np.abs(here.along), np.abs(here.across))
        clear = off < 17
        tall &= ~clear
        grass = clear & (here.water < 0)
        labels[grass & (labels != ROAD)] = FARMLAND
        mat[grass] = MATERIAL["verge"]
        shade[grass] = (0.06 * mottle + 0.03 * fine)[grass]
        road = off < 9
        labels[road] = ROAD
        mat[road] = MATERIAL["asphalt"]
        shade[road] = (0.03 * fine + 0.03 * mottle)[road]
        if canvas.d == 1:
            position = np.where(np.abs(here.along) < 9, here.t, here.s)
            dash = position - np.floor(position / 24) * 24 < 12
            line = ((off < 0.6) & dash) | (np.abs(off - 7.6) < 0.45)
            mat[line] = MATERIAL["line"]

    def _finish(self, canvas: _Canvas) -> F32:
        f32, ys, xs = np.float32, canvas.ys, canvas.xs
        slow = f32(0.035) * lattice_noise(self.seed, 80, ys, xs, 500)
        slow += f32(0.07) * lattice_noise(self.seed, 81, ys, xs, 9000)
        warm = f32(0.035) * lattice_noise(self.seed, 82, ys, xs, 6500)
        light = (1 + canvas.shade) * (1 + slow)
        np.maximum(light, f32(0.12), out=light)
        rgb = PALETTE[canvas.mat]
        rgb[..., 0] *= light * (1 + warm)
        rgb[..., 1] *= light
        rgb[..., 2] *= light * (1 - warm)
        # The blur of a lens, about a pixel, and a little haze.
        for axis in (0, 1):
            a = np.moveaxis(rgb, axis, 0)
            a[1:-1] = 0.6 * a[1:-1] + 0.2 * (a[:-2] + a[2:])
        out: F32 = np.clip(rgb * f32(0.93) + f32(10), 0, 255)
        return out
