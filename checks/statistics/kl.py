"""The Kullback-Leibler divergence."""

from __future__ import annotations

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import deciles, jeffreys


@statistic("kl", symmetric=False)
def kl(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10) -> Statistic:
    """Sum of ``q ln(q / p)`` over reference deciles or the categories, unseen and missing: of the current from the reference.

    Notes
    -----
    Natural logarithm, range [0, inf), no unit. The direction matters: how surprised somebody is who expects the reference and
    gets the current rows. Shares are smoothed as for `psi`, which is the sum of both directions. Do not use it where a bin can
    be new: it then depends on the smoothing alone.

    References
    ----------
    S. Kullback, R. A. Leibler, On information and sufficiency, Annals of Mathematical Statistics 22 (1951).
    """
    left, right = deciles(binning, reference, current, bins)
    p, q = jeffreys(left), jeffreys(right)
    return Statistic.exact(max(float((q * np.log(q / p)).sum()), 0.0), int(right.sum()))
