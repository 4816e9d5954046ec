"""Hashing and noise: a position has the same number in every region that is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PERIOD = 1024
"""Side in pixels of the textures, which repeat."""

SUN = (0.86, 0.51)
"""Direction of the light in the image (down, right): a southern sun."""


def hash01(seed: int, salt: int, *keys: NDArray[np.integer] | int) -> F64:
    """Return numbers in [0, 1) that depend on the seed, the salt and integer keys.

    Parameters
    ----------
    seed, salt : int
        The world's seed, and the purpose of the numbers.
    *keys : integer array or int
        Lattice coordinates; they broadcast against each other.
    """
    h = np.uint64((seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) & (2**64 - 1))
    out = np.asarray(h)
    with np.errstate(over="ignore"):
        for key in keys:
            out = out ^ np.asarray(key, np.int64).astype(np.uint64)
            # splitmix64's finaliser: every bit of the key moves every bit of the hash
            out = (out + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
            out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            out = out ^ (out >> np.uint64(31))
    return (out >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _weights(at: F64, first: int, count: int) -> F64:
    cell = np.floor(at).astype(np.int64)
    f = at - cell
    w = f * f * f * (f * (f * 6 - 15) + 10)
    matrix = np.zeros((len(at), count))
    rows = np.arange(len(at))
    matrix[rows, cell - first] = 1 - w
    matrix[rows, cell - first + 1] = w
    return matrix


def lattice_noise(seed: int, salt: int, ys: F64, xs: F64, scale: float) -> F32:
    """Return smooth noise in [-1, 1] of wavelength about twice `scale` pixels.

    On an axis-parallel grid it is a product of three small matrices, which costs far
    less than hashing each pixel.

    Parameters
    ----------
    seed, salt : int
        The world's seed, and the number of the noise field.
    ys, xs : (h,) and (w,) float64
        Increasing pixel coordinates of the grid's rows and columns.
    scale : float
        Distance of the lattice points in pixels.

    Returns
    -------
    (h, w) float32
    """
    v, u = ys / scale, xs / scale
    y0, x0 = int(np.floor(v[0])), int(np.floor(u[0]))
    ny, nx = int(np.floor(v[-1])) - y0 + 2, int(np.floor(u[-1])) - x0 + 2
    values = hash01(
        seed, salt, np.arange(y0, y0 + ny)[:, None], np.arange(x0, x0 + nx)[None, :]
    )
    left = (_weights(v, y0, ny) @ (values * 2 - 1)).astype(np.float32)
    out: F32 = left @ _weights(u, x0, nx).T.astype(np.float32)
    return out


@dataclass(frozen=True, slots=True)
class Textures:
    """Textures that repeat every `PERIOD` pixels, at one downsample.

    Squares of float32, PERIOD / downsample a side (the last two half of that), of mean
    about zero: `fine` is grain of a few pixels, `mottle` goes from 8 to 64 pixels,
    `wobble` bends outlines; `canopy` is the light on tree crowns and `crown` a number
    in [0, 1] for each tree.
    """

    fine: F32
    mottle: F32
    wobble: F32
    canopy: F32
    crown: F32


def _periodic(seed: int, salt: int, step: int, side: int = PERIOD) -> F32:
    n = side // step
    values = hash01(seed, salt, np.arange(n)[:, None], np.arange(n)[None, :]) * 2 - 1
    at = (np.arange(side) + 0.5) / step
    w = _weights(at, 0, n + 1)
    w[:, 0] += w[:, n]
    w = w[:, :n]
    return (w @ values @ w.T).astype(np.float32)


def _sunlight(height: F32) -> F32:
    slope_y = np.roll(height, 1, 0) - np.roll(height, -1, 0)
    slope_x = np.roll(height, 1, 1) - np.roll(height, -1, 1)
    light: F32 = SUN[0] * slope_y + SUN[1] * slope_x
    return light


def _canopy(seed: int) -> tuple[F32, F32]:
    step, side = 16, PERIOD // 2
    n = side // step
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    grid = np.arange(side, dtype=np.float32)
    cell = np.arange(side) // step
    height = np.zeros((side, side), np.float32)
    crown = np.zeros((side, side), np.float32)
    numbers = [hash01(seed, 900 + k, i, j).astype(np.float32) for k in range(5)]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cy, cx = (cell + dy) % n, (cell + dx) % n
            ay, ax, size, base, tint = (a[np.ix_(cy, cx)] for a in numbers)
            ty = ((cell + dy) * step).astype(np.float32)[:, None] + ay * step
            tx = ((cell + dx) * step).astype(np.float32)[None, :] + ax * step
            r = 7.5 + 5 * size
            square = r * r - (grid[:, None] - ty) ** 2 - (grid[None, :] - tx) ** 2
            top = np.sqrt(np.maximum(square, 0)) * 1.1 + 4 * base * (square > 0)
            crown = np.where(top > height, tint, crown)
            height = np.maximum(height, top)
    height += 0.9 * _periodic(seed, 905, 2, side) + 0.8 * _periodic(seed, 906, 4, side)
    light = _sunlight(height)
    # Light on the slopes facing the sun, and dark gaps between the crowns.
    shade = 0.085 * np.clip(light, -5, 5) + 0.045 * (np.minimum(height, 13) - 9)
    return (shade - shade.mean()).astype(np.float32), crown


@lru_cache(maxsize=64)
def textures(seed: int, downsample: int) -> Textures:
    """Return the repeating textures of a world at a downsample (a power of two)."""
    if downsample > PERIOD // 8:
        return textures(seed, PERIOD // 8)
    if downsample > 1:
        full, d = textures(seed, downsample // 2), 2

        def half(a: F32) -> F32:
            n = len(a) // d
            out: F32 = a.reshape(n, d, n, d).mean((1, 3), dtype=np.float32)
            return out

        return Textures(*(half(getattr(full, k)) for k in Textures.__slots__))
    fine = 0.6 * _periodic(seed, 910, 1) + 0.7 * _periodic(seed, 911, 2)
    fine += 0.5 * _periodic(seed, 912, 4)
    mottle = 0.5 * _periodic(seed, 913, 8) + 0.7 * _periodic(seed, 914, 16)
    mottle += 0.8 * _periodic(seed, 915, 64)
    wobble = 0.7 * _periodic(seed, 916, 32) + 0.3 * _periodic(seed, 917, 8)
    canopy, crown = _canopy(seed)
    return Textures(fine, mottle, wobble, canopy, crown)


def tiled(texture: F32, first_y: int, first_x: int, height: int, width: int) -> F32:
    """Return a part of a repeating texture.

    Parameters
    ----------
    texture : (n, n) float32
        The texture, which repeats every n pixels.
    first_y, first_x : int
        First row and column, in pixels of the texture's level.
    height, width : int
        Size of the part in pixels.

    Returns
    -------
    (height, width) float32
    """
    n = len(texture)
    ys = np.arange(first_y, first_y + height) % n
    xs = np.arange(first_x, first_x + width) % n
    return texture[ys][:, xs]
