"""Procedural slide: stained tissue (pink and violet) on clear glass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_uhrseg.samples.noise import F32, hash01, lattice_noise, textures, tiled
from napari_uhrseg.types import LabelClass, Legend

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PIXEL_SIZE_UM = 0.5
SHAPE = (6144, 8192)
STRIP = 512
SEED = 77

PIECES = ((1750, 2150, 900, 1250), (4200, 3500, 1150, 800), (2450, 6050, 1150, 900))
"""The pieces of tissue: centre (y, x) and half sides in pixels."""

GLASS = (243, 242, 244)
STROMA = (232, 178, 204)
CYTOPLASM = (208, 146, 190)
NUCLEUS = (104, 70, 146)
LUMEN = (240, 234, 240)
GLAND = 150.0
"""Distance of the glands' centres in pixels."""

CLASSES = Legend(
    (
        LabelClass(1, "glass", "#eceff1"),
        LabelClass(2, "stroma", "#f06292"),
        LabelClass(3, "epithelium", "#7e57c2"),
        LabelClass(4, "lumen", "#4fc3f7"),
        LabelClass(5, "immune cells", "#283593"),
    )
)


def tissue_depth(ys: NDArray[np.float64], xs: NDArray[np.float64]) -> F32:
    """Return the depth into the tissue, positive inside, in relative units."""
    y, x = ys[:, None].astype(np.float32), xs[None, :].astype(np.float32)
    depth = np.full((len(ys), len(xs)), -1, np.float32)
    for cy, cx, ry, rx in PIECES:
        r = np.sqrt(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)
        np.maximum(depth, 1 - r, out=depth)
    depth += 0.22 * lattice_noise(SEED, 1, ys, xs, 420)
    depth += 0.07 * lattice_noise(SEED, 2, ys, xs, 120)
    return depth + 0.02 * lattice_noise(SEED, 3, ys, xs, 25)


def _nearest(
    ys: NDArray[np.float64], xs: NDArray[np.float64], pitch: float, salt: int
) -> tuple[F32, F32]:
    """Return the distance to the nearest of jittered points, and its number."""
    i, j = (np.floor(a / pitch).astype(np.int64) for a in (ys, xs))
    ii, jj = (np.arange(a[0] - 1, a[-1] + 2) for a in (i, j))
    a, b = ii[:, None], jj[None, :]
    cy = ((a + 0.15 + 0.7 * hash01(SEED, salt, a, b)) * pitch).astype(np.float32)
    cx = ((b + 0.15 + 0.7 * hash01(SEED, salt + 1, a, b)) * pitch).astype(np.float32)
    number = hash01(SEED, salt + 2, a, b).astype(np.float32)
    best = np.full((len(ys), len(xs)), 1e9, np.float32)
    which = np.zeros_like(best)
    y, x = ys[:, None].astype(np.float32), xs[None, :].astype(np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            pick = np.ix_(i - ii[0] + dy, j - jj[0] + dx)
            near = (y - cy[pick]) ** 2 + (x - cx[pick]) ** 2
            closer = near < best
            best[closer] = near[closer]
            which[closer] = number[pick][closer]
    return np.sqrt(best), which


@dataclass(frozen=True)
class _Parts:
    """Parts of a region of tissue: textures and masks of one shape."""

    fine: F32
    mottle: F32
    wobble: F32
    gland: F32
    outer: F32
    epithelium: NDArray[np.bool_]
    lumen: NDArray[np.bool_]
    gaps: NDArray[np.bool_]
    immune: NDArray[np.bool_]

    @classmethod
    def of(cls, y: int, x: int, depth: F32) -> _Parts:
        height, width = depth.shape
        ys = np.arange(y, y + height).astype(np.float64)
        xs = np.arange(x, x + width).astype(np.float64)
        tex = textures(SEED, 1)
        fine, mottle, wobble = (
            tiled(getattr(tex, k), y, x, height, width)
            for k in ("fine", "mottle", "wobble")
        )
        gland, size = _nearest(ys, xs, GLAND, 10)
        gland += 13 * wobble + 5 * mottle
        outer = 38 + 26 * size
        deep = depth > 0.05
        epithelium = deep & (gland < outer)
        lumen = deep & (gland < outer * (0.12 + 0.5 * (size * 7 % 1)))
        epithelium &= ~lumen
        gaps = deep & ~epithelium & (mottle + 0.8 * wobble > 1.25)
        immune = lattice_noise(SEED, 6, ys, xs, 260) > 0.45
        return cls(fine, mottle, wobble, gland, outer, epithelium, lumen, gaps, immune)


def labels(y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return the class ids of a region, see `CLASSES`.

    A gap in the stroma counts as stroma. A nucleus has the class of the tissue around
    it.

    Parameters
    ----------
    y, x, height, width : int
        The region in pixels of 0.5 µm.

    Returns
    -------
    (height, width) uint8
    """
    ys = np.arange(y, y + height).astype(np.float64)
    xs = np.arange(x, x + width).astype(np.float64)
    depth = tissue_depth(ys, xs)
    found = np.where(depth > 0, np.uint8(2), np.uint8(1))
    if (depth > 0).any():
        parts = _Parts.of(y, x, depth)
        found[(depth > 0) & parts.immune] = 5
        found[parts.epithelium] = 3
        found[parts.lumen] = 4
    return found


def render(y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
    """Compute a region of the slide.

    Parameters
    ----------
    y, x, height, width : int
        The region in pixels of 0.5 µm.

    Returns
    -------
    (height, width, 3) uint8
    """
    ys = np.arange(y, y + height).astype(np.float64)
    xs = np.arange(x, x + width).astype(np.float64)
    rgb = np.empty((height, width, 3), np.float32)
    # The illumination of the glass is slightly uneven, with almost no grain.
    rgb[:] = np.array(GLASS, np.float32)
    rgb += 1.5 * lattice_noise(SEED, 4, ys, xs, 2500)[..., None]
    depth = tissue_depth(ys, xs)
    inside = depth > 0
    if not inside.any():
        return np.clip(rgb, 0, 255).astype(np.uint8)

    tissue = _Parts.of(y, x, depth)
    fine, mottle, wobble = tissue.fine, tissue.mottle, tissue.wobble
    gland, outer = tissue.gland, tissue.outer
    epithelium, lumen, gaps = tissue.epithelium, tissue.lumen, tissue.gaps
    # Fibres of the stroma run in waves.
    fold = 40 * lattice_noise(SEED, 5, ys, xs, 90) + ys[:, None] * 0.5 + xs[None, :] / 4
    fibre = np.sin((fold + 4 * wobble).astype(np.float32) * np.float32(0.6))
    light = 1 + 0.06 * fibre + 0.04 * mottle + 0.035 * fine
    tone = np.where(
        epithelium[..., None],
        np.array(CYTOPLASM, np.float32),
        np.array(STROMA, np.float32),
    )
    tone = tone * light[..., None].astype(np.float32)
    tone[lumen | gaps] = np.array(LUMEN, np.float32)

    # Nuclei: a ring of tall ones at the rim of each gland, scattered ones elsewhere.
    near, kind = _nearest(ys, xs, 15, 20)
    rim = epithelium & (gland > outer - 17) & (gland < outer - 2)
    radius = np.where(rim, 5.8, np.where(epithelium, 3.6 * (kind < 0.2), 0))
    sparse = inside & ~epithelium & ~lumen & ~gaps
    radius = np.where(
        sparse, np.where(kind < np.where(tissue.immune, 0.9, 0.3), 4.2, 0), radius
    )
    edge = np.clip((radius + 1.2 * wobble - near) * 0.8, 0, 1) * (radius > 0)
    chroma = (
        np.array(NUCLEUS, np.float32)
        * (1 + 0.14 * fine + 0.25 * (kind - 0.4))[..., None]
    )
    tone += (chroma - tone) * (0.9 * edge[..., None]).astype(np.float32)

    cover = np.clip(depth * 60, 0, 1)[..., None]
    rgb += (tone - rgb) * cover
    return np.clip(rgb, 0, 255).astype(np.uint8)


def write_slide(path: Path | str, shape: tuple[int, int] = SHAPE) -> None:
    """Write the slide as a tiled pyramid: one page a level, JPEG, 0.5 µm pixels.

    Parameters
    ----------
    path : Path or str
        A TIFF, overwritten if it exists.
    shape : (int, int)
        Height and width in pixels of the written part, from the upper left corner.
    """
    height, width = shape
    level = np.concatenate(
        [render(y, 0, min(STRIP, height - y), width) for y in range(0, height, STRIP)]
    )
    with tifffile.TiffWriter(path) as file:
        for number in range(6):
            per_cm = 1e4 / (PIXEL_SIZE_UM * 2**number)
            file.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                description="Procedural slide, 20x, 0.5 um a pixel"
                if not number
                else "",
                metadata=None,
            )
            h, w = level.shape[0] // 2 * 2, level.shape[1] // 2 * 2
            halves = level[:h, :w].reshape(h // 2, 2, w // 2, 2, 3)
            level = halves.mean((1, 3), dtype=np.float32).round().astype(np.uint8)
