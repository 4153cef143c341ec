"""The test of two proportions."""

from __future__ import annotations

import math

from scipy.special import ndtr

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._proportion import split


@statistic("z_test", applies=("category",), lower=None)
def z_test(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, category: str | None = None) -> Statistic:
    """The difference of one category's share, current less reference, over its pooled standard error.

    Parameters
    ----------
    category : the category; without one that which most rows of the reference hold.

    Notes
    -----
    Range (-inf, inf), in standard errors. Two-sided p-value from the normal law; it assumes independent rows: not for alerting.
    Below 5 expected rows in a cell use `fisher`.

    References
    ----------
    R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 17 (1998).
    """
    hit, n, now, m = split(binning, reference, current, category)
    if not n or not m:
        return Statistic.nothing()
    pooled = (hit + now) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    value = (now / m - hit / n) / error if error > 0 else 0.0
    return Statistic.exact(value, m, "se", float(2 * ndtr(-abs(value))))
