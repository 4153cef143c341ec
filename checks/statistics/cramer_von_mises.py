"""The two-sample Cramer-von Mises statistic."""

from __future__ import annotations

import math

from scipy.special import gammaln, kv

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._ordered import Floats, ordered


@statistic("cramer_von_mises", applies=("numeric",), symmetric=True, lower=None)
def cramer_von_mises(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """Anderson's T: the squared distance of the two distribution functions, summed over the pooled rows.

    Notes
    -----
    No unit; about 1/6 where nothing changed and rows are untied, a little below zero at the least (ties by midranks, as scipy
    does); it grows with the rows. Rows in one bin count as tied; the interval says what their order can change. The p-value is
    asymptotic and assumes independent rows: not for alerting.

    References
    ----------
    T. W. Anderson, On the distribution of the two-sample Cramer-von Mises criterion, Annals of Mathematical Statistics 33 (1962).
    """
    n, m = reference.filled, current.filled
    if not n or not m:
        return Statistic.nothing()
    bins = ordered(binning, reference, current)
    a, b = bins.reference, bins.current

    def ranks(own: Floats, other: Floats, before: Floats) -> Floats:
        middle = before + (own + other + 1) / 2
        found: Floats = own * middle**2 - middle * own * (own + 1) + own * (own + 1) * (2 * own + 1) / 6
        return found

    offset = (4.0 * n * m - 1) / (6 * (n + m))
    scale = float(n) * m * (n + m)
    parts = (n * ranks(a, b, bins.before_current) + m * ranks(b, a, bins.before_reference)) / scale
    value = float(parts.sum()) - offset
    if bins.tied.all():
        return Statistic(value, value, value, m, "", _p_value(value, n, m))
    # T sums (F - G)^2 over untied rows, each within its bounds. Midranks of rows that are tied add at most a sample's own spread of
    # ranks, and take at most what the orders of both samples vary by.
    weight = float(n) * m / (n + m) ** 2 * (a + b)
    varied = a * b * ((n * b + m * a) / 12 + (a + b + 1) / 6 * (n / (a + 1) + m / (b + 1))) / scale
    added = (n * a * (a**2 - 1) + m * b * (b**2 - 1)) / 12 / scale
    low, high = float((weight * bins.least - varied).sum()), float((weight * bins.most + added).sum())
    return Statistic(value, min(low, value), max(high, value), m, "", _p_value(value, n, m))


def _p_value(value: float, n: int, m: int) -> float:
    whole = n + m
    mean = (1 + 1 / whole) / 6
    spread = (whole + 1) * (4.0 * n * m * whole - 3 * (n**2 + m**2) - 2.0 * n * m) / (45 * whole**2 * 4.0 * n * m)
    if spread <= 0:
        return 1.0
    return 1 - min(max(distribution(1 / 6 + (value - mean) / math.sqrt(45 * spread)), 0.0), 1.0)


def distribution(x: float) -> float:
    """The limiting distribution function of the statistic (Csorgo and Faraway 1996, equation 1.2)."""
    if x <= 0.003:
        return 0.0
    total = 0.0
    for k in range(20):
        odd = 4 * k + 1
        y = odd**2 / (16 * x)
        term = math.exp(float(gammaln(k + 0.5) - gammaln(k + 1)) - 1.5 * math.log(math.pi) - y) * math.sqrt(odd / x) * float(kv(0.25, y))
        total += term
        if term < 1e-12:
            break
    return total
