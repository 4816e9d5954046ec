"""Split of the sites of corrections: which are held out for validation."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.correction_sites import MIN_SITES, Points

HELD_OUT_FRACTION = 0.2  # of the sites are held out
# least fraction of a class's points that is used for training, if possible
MIN_TRAINING_FRACTION = 0.5
SITE_GRID = 128  # pixels; a site whose centre stays in a cell keeps its split


def choose_held_out(
    points: Points,
    count: int,
    seed: int,
    fewest: int = MIN_SITES,
    names: Sequence[str] | None = None,
) -> npt.NDArray[np.bool_]:
    """Choose the validation sites; none if there are too few sites.

    No class is held out completely, and if possible at most half of its points. Sites
    with classes that are not held out yet come first. Otherwise a hash of the position
    decides the order, so that a site keeps its split when others are added.

    Parameters
    ----------
    points
        Corrected pixels.
    count
        Number of sites; they are numbered from 1.
    seed
        Seed of the hash.
    fewest
        Least number of sites with points.
    names
        Name of each site, whose hash decides. None: those of `site_positions`.

    Returns
    -------
    (count + 1,) bool
        True for held-out sites.
    """
    held = np.zeros(count + 1, bool)
    there = np.unique(points.site)
    if len(there) < fewest:
        return held
    found = np.zeros((count + 1, 256), np.int64)
    np.add.at(found, (points.site, points.channel), 1)
    known = site_positions(points, count) if names is None else names
    has, most = found > 0, (1 - MIN_TRAINING_FRACTION) * found.sum(0)
    wanted = max(1, round(HELD_OUT_FRACTION * len(there)))

    def name_hash(site: int) -> bytes:
        return hashlib.sha256(f"{seed} {known[site - 1]}".encode()).digest()

    order = sorted(there.tolist(), key=name_hash)
    for _ in range(wanted):
        left = has[~held].sum(0)
        shown = has[held].any(0)
        free = [p for p in order if not held[p] and (left[has[p]] > 1).all()]
        if not free:
            break
        much = has & (found + found[held].sum(0) > most)
        held[min(free, key=lambda p: (much[p].any(), -(has[p] & ~shown).sum()))] = True
    return held


def site_positions(points: Points, count: int) -> list[str]:
    """Return a name of each site by its position, which further sites do not change.

    Parameters
    ----------
    points
        Corrected pixels.
    count
        Number of sites; they are numbered from 1. One without points has the name of
        the origin.
    """
    names = []
    for site in range(1, count + 1):
        at = points.at[points.site == site]
        y, x = at.mean(0) // SITE_GRID if len(at) else (0.0, 0.0)
        names.append(f"{y} {x}")
    return names
