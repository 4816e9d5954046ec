"""Area-weighted accuracy with confidence intervals.

Olofsson, Foody, Herold, Stehman, Woodcock and Wulder (2014): Good practices for
estimating area and assessing accuracy of land change. Remote Sensing of Environment
148, 42-57.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Z_95 = 1.96  # standard errors on either side of a 95 % interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimates with the half widths of their 95 % intervals, float64 of one shape."""

    value: FloatArray
    margin: FloatArray


@dataclass(frozen=True, slots=True)
class AreaWeightedAccuracy:
    """Accuracies of a map, weighted by the mapped areas of its K classes.

    Values of a class are NaN if they cannot be estimated.

    Attributes
    ----------
    names
        Names of the classes.
    proportions
        (K, K): share of the area that is mapped as class i (row) and is class j.
    overall
        Share of the area that is mapped right, a scalar.
    users
        (K,) user's accuracy: share of the area mapped as a class that is this class.
    producers
        (K,) producer's accuracy: share of the area of a class that is mapped as it.
    area
        (K,) share of the area that is this class, corrected for errors of the map.
    left_out
        Names of mapped classes with fewer than two samples. The others are weighted as
        if these classes were not mapped.
    """

    names: tuple[str, ...]
    proportions: FloatArray
    overall: Estimate
    users: Estimate
    producers: Estimate
    area: Estimate
    left_out: tuple[str, ...] = ()


def area_weighted_accuracy(
    counts: npt.ArrayLike, mapped: npt.ArrayLike, names: Sequence[str]
) -> AreaWeightedAccuracy:
    """Return area-weighted accuracies of a map from a sample of reference labels.

    Parameters
    ----------
    counts
        (K, K) sample counts n_ij: mapped as class i (row), reference class j (column).
    mapped
        (K,) mapped area of each class, in any unit.
    names
        Names of the K classes.

    Notes
    -----
    The equations are those of Olofsson et al. (2014), for samples that are stratified
    by the map classes. W_i is the share of the mapped area of class i, n_i. the sum of
    row i, and p_ij = W_i n_ij / n_i. (eq. 4).

    ======================  =====================================================
    overall accuracy        O = sum_j p_jj (eq. 1)
    user's accuracy         U_i = p_ii / p_i. (eq. 2)
    producer's accuracy     P_j = p_jj / p_.j (eq. 3)
    variance of O           sum_i W_i^2 U_i (1 - U_i) / (n_i. - 1) (eq. 5)
    variance of U_i         U_i (1 - U_i) / (n_i. - 1) (eq. 6)
    variance of P_j         1 / p_.j^2 [ W_j^2 (1 - P_j)^2 U_j (1 - U_j) / (n_j. - 1)
                            + P_j^2 sum_{i != j} W_i^2 n_ij / n_i. (1 - n_ij / n_i.)
                            / (n_i. - 1) ] (eq. 7, with areas as shares)
    area of class k         p_.k = sum_i W_i n_ik / n_i. (eq. 9)
    its standard error      sqrt(sum_i (W_i p_ik - p_ik^2) / (n_i. - 1)) (eq. 10)
    ======================  =====================================================

    The interval is the estimate plus or minus 1.96 standard errors. It assumes that
    samples are independent.
    """
    n, area = np.asarray(counts, np.float64), np.asarray(mapped, np.float64)
    rows = n.sum(1)
    sampled = rows > 1
    weights = np.where(sampled, area, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = weights / weights.sum()
        share = np.where(sampled[:, None], n / rows[:, None], 0.0)  # n_ij / n_i.
        users = np.where(sampled, share.diagonal(), np.nan)
        p = weights[:, None] * share
        classes = p.sum(0)
        producers = p.diagonal() / classes
        less = np.where(sampled, rows - 1, np.inf)  # no variance of what is left out
        spread = share * (1 - share) / less[:, None]
        variance_users = np.where(sampled, spread.diagonal(), np.nan)
        own = weights**2 * (1 - producers) ** 2 * spread.diagonal()
        others = weights[:, None] ** 2 * spread
        others = others.sum(0) - others.diagonal()
        variance_producers = (own + producers**2 * others) / classes**2
        variance_area = ((weights[:, None] * p - p**2) / less[:, None]).sum(0)
    left_out = (area > 0) & ~sampled
    return AreaWeightedAccuracy(
        tuple(names),
        p,
        _estimate(np.asarray(p.trace()), (weights**2 * spread.diagonal()).sum()),
        _estimate(users, variance_users),
        _estimate(producers, variance_producers),
        _estimate(classes, variance_area),
        tuple(name for name, out in zip(names, left_out, strict=True) if out),
    )


def _estimate(value: FloatArray, variance: npt.ArrayLike) -> Estimate:
    # rounding may make a variance of 0 negative
    return Estimate(value, Z_95 * np.sqrt(np.maximum(variance, 0.0)))
