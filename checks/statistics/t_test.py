"""Welch's test of two means."""

from __future__ import annotations

import math

from scipy.special import stdtr

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic

LARGEST = 1e9
"""What the difference of two constants is reported as."""


@statistic("t_test", applies=("numeric",), lower=None)
def t_test(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """The difference of means, current less reference, over its standard error, without assuming equal variances.

    Notes
    -----
    From the moments of the profile, so it is exact up to rounding. Range [-1e9, 1e9], in standard errors. Two-sided p-value with
    Welch's degrees of freedom; it assumes independent rows: not for alerting. Means tell little of heavy tails.

    References
    ----------
    B. L. Welch, The generalization of "Student's" problem when several different population variances are involved, Biometrika
    34 (1947).
    """
    n, m = reference.filled, current.filled
    if not n or not m:
        return Statistic.nothing()
    (first, left), (second, right) = (_moments(p, binning.center) for p in (reference, current))
    error = math.sqrt(left + right)
    scale = max(abs(first), abs(second), 1e-300)
    if error <= 1e-12 * scale:
        same = abs(second - first) <= 1e-12 * scale
        return Statistic.exact(0.0 if same else math.copysign(LARGEST, second - first), m, "se", 1.0 if same or min(n, m) < 2 else 0.0)
    value = (second - first) / error
    parts = sum(part**2 / (rows - 1) for part, rows in ((left, n), (right, m)) if rows > 1)
    freedom = error**4 / parts if parts > 0 else 1.0
    value = max(min(value, LARGEST), -LARGEST)
    return Statistic.exact(value, m, "se", float(2 * stdtr(freedom, -abs(value))))


def _moments(profile: ColumnProfile, center: float) -> tuple[float, float]:
    """The mean, and the squared standard error of it."""
    rows = profile.filled
    mean = profile.total / rows
    squares = max(profile.square - rows * (mean - center) ** 2, 0.0)
    return mean, squares / (rows - 1) / rows if rows > 1 else 0.0
