"""The total variation distance."""

from __future__ import annotations

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import deciles


@statistic("total_variation", symmetric=True, upper=1.0)
def total_variation(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10) -> Statistic:
    """Half the sum of the absolute differences of shares, in [0, 1]: the share of rows that would have to move.

    Notes
    -----
    Over reference deciles or the categories, unseen and missing. No unit; a distance, not a p-value. It grows with the number of
    bins in small windows.

    References
    ----------
    A. L. Gibbs, F. E. Su, On choosing and bounding probability metrics, International Statistical Review 70 (2002).
    """
    left, right = deciles(binning, reference, current, bins)
    return Statistic.exact(min(float(np.abs(left / left.sum() - right / right.sum()).sum()) / 2, 1.0), int(right.sum()))
