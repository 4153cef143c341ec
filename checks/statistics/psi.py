"""The population stability index."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import deciles, jeffreys


@statistic("psi")
def psi(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10) -> Statistic:
    """Sum of ``(q - p) ln(q / p)`` over ten reference deciles, or the categories, unseen and missing.

    Parameters
    ----------
    bins : how many reference quantiles a number's bins are grouped into.

    Notes
    -----
    Natural logarithm, range [0, inf), no unit. Shares are smoothed by Jeffreys' ``(c + .5) / (n + .5 K)``, so that an
    empty cell is finite; the smoothing of unequal row counts leaves up to about K/n on identical shares. The p-value is
    from the null law ``(1/N + 1/n) chi2(K - 1)`` and assumes independent rows: not for alerting.

    References
    ----------
    B. Yurdakul, J. Naranjo, Statistical properties of the population stability index, Journal of Risk Model
    Validation 14 (2020).
    """
    left, right = deciles(binning, reference, current, bins)
    p, q = jeffreys(left), jeffreys(right)
    value = float(((q - p) * np.log(q / p)).sum())
    rows = int(right.sum())
    scale = 1.0 / left.sum() + 1.0 / right.sum()
    p_value = float(chdtrc(len(p) - 1, value / scale)) if len(p) > 1 else 1.0
    return Statistic.exact(value, rows, p_value=p_value)
