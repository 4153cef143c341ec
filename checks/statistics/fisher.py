"""Fisher's exact test."""

from __future__ import annotations

from scipy.stats import fisher_exact

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._proportion import split

LARGEST = 1e9
"""What an infinite odds ratio is reported as."""


@statistic("fisher", applies=("category",), neutral=1.0)
def fisher(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, category: str | None = None) -> Statistic:
    """The odds ratio of one category against all others, current over reference, with Fisher's exact p-value.

    Parameters
    ----------
    category : the category; without one that which most rows of the reference hold.

    Notes
    -----
    Range [0, 1e9], no unit; 1 is no change, and what cannot be told (a constant column) is 1. For tables with a cell below 5
    expected rows; with many rows it is slow and `z_test` says the same. The p-value assumes independent rows: not for alerting.

    References
    ----------
    R. A. Fisher, On the interpretation of chi-square from contingency tables, and the calculation of P, Journal of the Royal
    Statistical Society 85 (1922).
    """
    hit, n, now, m = split(binning, reference, current, category)
    if not n or not m:
        return Statistic.nothing()
    table = [[now, m - now], [hit, n - hit]]
    above, below = now * (n - hit), (m - now) * hit
    value = min(above / below, LARGEST) if below else (LARGEST if above else 1.0)
    return Statistic.exact(value, m, "odds ratio", min(float(fisher_exact(table).pvalue), 1.0))
