"""The two-sample Kolmogorov-Smirnov statistic."""

from __future__ import annotations

import numpy as np
from scipy.special import kolmogorov

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._intervals import within_bins


@statistic("kolmogorov_smirnov", applies=("numeric",), symmetric=True, upper=1.0)
def kolmogorov_smirnov(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """The largest distance between the two distribution functions, in [0, 1].

    Notes
    -----
    At the edges both functions are known exactly; inside a bin they can only run between their values at its ends. The
    value is the distance at the edges, and the exact one lies in ``[low, high]``. Missing values and infinities do not
    count. The p-value is the asymptotic two-sided one and assumes independent rows: not for alerting.

    References
    ----------
    N. V. Smirnov, Table for estimating the goodness of fit of empirical distributions, Annals of Mathematical
    Statistics 19 (1948).
    """
    if not reference.filled or not current.filled:
        return Statistic.nothing()
    n, m = reference.filled, current.filled
    left, right = np.cumsum(reference.counts) / n, np.cumsum(current.counts) / m
    low = float(np.abs(left - right).max())
    a, b = within_bins(binning, reference), within_bins(binning, current)
    start_left = np.where(a.at_edge, left, left - reference.counts / n)
    start_right = np.where(b.at_edge, right, right - current.counts / m)
    high = float(np.maximum(left - start_right, right - start_left).max())
    high = min(max(low, high), 1.0)
    p_value = float(kolmogorov(np.sqrt(n * m / (n + m)) * low))
    return Statistic(low, low, high, m, "", p_value)
