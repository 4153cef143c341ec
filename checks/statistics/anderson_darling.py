"""The two-sample Anderson-Darling statistic."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._ordered import Floats, ordered

LEVELS = np.array([0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001])
CRITICAL = (
    np.array([0.675, 1.281, 1.645, 1.96, 2.326, 2.573, 3.085]) + np.array([-0.245, 0.25, 0.678, 1.149, 1.822, 2.364, 3.615])
    + np.array([-0.105, -0.305, -0.362, -0.391, -0.396, -0.345, -0.154])
)
"""Critical values of the standardised statistic of two samples at `LEVELS` (Scholz and Stephens 1987, table 1)."""


@statistic("anderson_darling", applies=("numeric",), symmetric=True)
def anderson_darling(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """The squared distance of the two distribution functions over the pooled rows, its tails weighted up; ties by midranks.

    Notes
    -----
    Scholz and Stephens' A2akN, not standardised: range [0, inf), about 1 where nothing changed; it grows with the rows. Rows in
    one bin count as tied; the interval says what their order can change. The p-value lies between .001 and .25, as the published
    table does, and assumes independent rows: not for alerting.

    References
    ----------
    F. W. Scholz, M. A. Stephens, K-sample Anderson-Darling tests, Journal of the American Statistical Association 82 (1987).
    """
    n, m = reference.filled, current.filled
    if not n or not m:
        return Statistic.nothing()
    bins = ordered(binning, reference, current)
    whole = float(n + m)
    rows = bins.reference + bins.current
    start = bins.before_reference + bins.before_current
    middle = start + rows / 2
    gap = ((bins.before_reference + bins.reference / 2) / n - (bins.before_current + bins.current / 2) / m) ** 2
    below = middle * (whole - middle) - whole * rows / 4
    with np.errstate(divide="ignore", invalid="ignore"):
        tied = np.where(below > 1e-9 * whole, rows / np.maximum(below, 1e-9 * whole), 0.0)
    scale = (whole - 1) / whole * n * m  # (n m)^2 (1/n + 1/m) / N
    value = float((tied * gap).sum()) * scale
    if bins.tied.all():
        return Statistic(value, value, value, m, "", _p_value(value, n, m))
    untied = _untied(start, rows, whole)
    least = np.where(bins.tied, tied * gap, np.minimum(tied, untied) * bins.least)
    most = np.where(bins.tied, tied * gap, np.maximum(tied, untied) * bins.most)
    low, high = float(least.sum()) * scale * (1 - 1e-9), float(most.sum()) * scale * (1 + 1e-9)
    return Statistic(value, max(min(low, value), 0.0), max(high, value), m, "", _p_value(value, n, m))


def _untied(start: Floats, rows: Floats, whole: float) -> Floats:
    """The sum of ``1 / (x (N - x) - N / 4)`` over the midranks of a bin's rows, if none of them are tied."""
    if whole < 2:
        return np.zeros_like(start)
    root = math.sqrt(whole**2 - whole)
    low, high = (whole - root) / 2, (whole + root) / 2
    first, last = start + 0.5, start + rows + 0.5
    ascending = digamma(last - low) - digamma(first - low)
    descending = digamma(high - first + 1) - digamma(high - last + 1)
    found: Floats = (ascending + descending) / (high - low)
    return found


def _p_value(value: float, n: int, m: int) -> float:
    whole = n + m
    if whole < 5:
        return 0.25
    inverse = 1 / n + 1 / m
    harmonic = float(digamma(whole) + np.euler_gamma)
    steps = np.arange(1, min(whole, 100_000) - 1)
    g = float(((digamma(min(whole, 100_000)) - digamma(steps + 1)) / (min(whole, 100_000) - steps)).sum())
    a = (4 * g - 6) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * 4 + 8 * harmonic * 2 + (2 * g - 14 * harmonic - 4) * inverse - 8 * harmonic + 4 * g - 6
    c = (6 * harmonic + 2 * g - 2) * 4 + (4 * harmonic - 4 * g + 6) * 2 + (2 * harmonic - 6) * inverse + 4 * harmonic
    d = (2 * harmonic + 6) * 4 - 4 * harmonic * 2
    spread = (a * whole**3 + b * whole**2 + c * whole + d) / ((whole - 1.0) * (whole - 2) * (whole - 3))
    standardised = (value - 1) / math.sqrt(max(spread, 1e-12))
    fitted = np.polyfit(CRITICAL, np.log(LEVELS), 2)
    if standardised <= CRITICAL[0]:
        return 0.25
    if standardised >= CRITICAL[-1]:
        return 0.001
    return float(min(max(math.exp(float(np.polyval(fitted, standardised))), 0.001), 0.25))
