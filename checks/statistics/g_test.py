"""The likelihood-ratio test of two samples."""

from __future__ import annotations

from scipy.special import chdtrc, xlogy

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import deciles
from checks.statistics.chi_square import pool


@statistic("g_test", symmetric=True)
def g_test(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10) -> Statistic:
    """``2 sum O ln(O / E)`` of the 2 x K table of both samples, cells below 5 expected rows pooled.

    Notes
    -----
    On the same table as `chi_square`: deciles of the reference for numbers. Range [0, inf), no unit; it grows with the rows. The
    p-value assumes independent rows: not for alerting.

    References
    ----------
    S. S. Wilks, The large-sample distribution of the likelihood ratio for testing composite hypotheses, Annals of Mathematical
    Statistics 9 (1938).
    """
    left, right = pool(*deciles(binning, reference, current, bins))
    rows = int(current.layout().sum())
    if len(left) < 2:
        return Statistic.exact(0.0, rows, p_value=1.0)
    total = left + right
    n, m = left.sum(), right.sum()
    value = 2 * float((xlogy(left, left * (n + m) / (total * n)) + xlogy(right, right * (n + m) / (total * m))).sum())
    value = max(value, 0.0)
    return Statistic.exact(value, rows, p_value=float(chdtrc(len(left) - 1, value)))

