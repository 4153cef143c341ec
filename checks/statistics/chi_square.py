"""Pearson's chi-square for two samples."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import Floats, deciles


@statistic("chi_square", symmetric=True)
def chi_square(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10) -> Statistic:
    """Pearson's statistic of the 2 x K table of both samples, cells below 5 expected rows pooled.

    Notes
    -----
    Two-sample, not one-sample: taking the reference's shares as exact gives 31% false positives at 1000 against 1000
    rows. Deciles of the reference for numbers. Range [0, inf), no unit; it grows with the rows. The p-value assumes
    independent rows: not for alerting.

    References
    ----------
    K. Pearson, On the probability that two independent distributions of frequency are really samples from the same
    population, Biometrika 8 (1911).
    """
    left, right = pool(*deciles(binning, reference, current, bins))
    rows = int(current.layout().sum())
    if len(left) < 2:
        return Statistic.exact(0.0, rows, p_value=1.0)
    total = left + right
    n, m = left.sum(), right.sum()
    expected = total * n / (n + m), total * m / (n + m)
    value = float(((left - expected[0]) ** 2 / expected[0]).sum() + ((right - expected[1]) ** 2 / expected[1]).sum())
    return Statistic.exact(value, rows, p_value=float(chdtrc(len(left) - 1, value)))


def pool(left: Floats, right: Floats, least: float = 5.0) -> tuple[Floats, Floats]:
    """Both rows of the table with the cells of fewer than ``least`` expected rows put together."""
    total = left + right
    share = min(left.sum(), right.sum()) / total.sum()
    small = total * share < least
    if not small.any():
        return left, right
    kept = ~small
    pooled_left, pooled_right = np.r_[left[kept], left[small].sum()], np.r_[right[kept], right[small].sum()]
    if (pooled_left[-1] + pooled_right[-1]) * share < least and len(pooled_left) > 1:
        smallest = int(np.argmin((pooled_left + pooled_right)[:-1]))
        pooled_left[smallest] += pooled_left[-1]
        pooled_right[smallest] += pooled_right[-1]
        pooled_left, pooled_right = pooled_left[:-1], pooled_right[:-1]
    return pooled_left, pooled_right
