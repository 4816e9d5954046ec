"""Split of the sites of corrections: which are held out for validation."""

import hashlib

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.finetuning.correction_sites import MIN_SITES, Points

HELD_OUT_FRACTION = 0.2  # of the sites are held out
# least fraction of a class's points that is used for training, if possible
MIN_TRAINING_FRACTION = 0.5
SITE_GRID = 128  # pixels; a site whose centre stays in a cell keeps its split


def choose_held_out(points: Points, count: int, seed: int) -> npt.NDArray[np.bool_]:
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

    Returns
    -------
    (count + 1,) bool
        True for held-out sites.
    """
    held = np.zeros(count + 1, bool)
    there = np.unique(points.site)
    if len(there) < MIN_SITES:
        return held
    found = np.zeros((count + 1, 256), np.int64)
    np.add.at(found, (points.site, points.channel), 1)
    has, most = found > 0, (1 - MIN_TRAINING_FRACTION) * found.sum(0)
    wanted = max(1, round(HELD_OUT_FRACTION * len(there)))

    def position_hash(site: int) -> bytes:
        y, x = points.at[points.site == site].mean(0) // SITE_GRID
        return hashlib.sha256(f"{seed} {y} {x}".encode()).digest()

    order = sorted(there.tolist(), key=position_hash)
    for _ in range(wanted):
        left = has[~held].sum(0)
        shown = has[held].any(0)
        free = [p for p in order if not held[p] and (left[has[p]] > 1).all()]
        if not free:
            break
        much = has & (found + found[held].sum(0) > most)
        held[min(free, key=lambda p: (much[p].any(), -(has[p] & ~shown).sum()))] = True
    return held
