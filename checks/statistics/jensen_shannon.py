"""The Jensen-Shannon distance."""

from __future__ import annotations

import math

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import deciles


@statistic("jensen_shannon", symmetric=True, upper=1.0)
def jensen_shannon(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10, base: float = 2.0, divergence: bool = False) -> Statistic:
    """The square root of the Jensen-Shannon divergence with logarithms to base 2, in [0, 1].

    Parameters
    ----------
    bins : how many reference quantiles a number's bins are grouped into.
    base : of the logarithm.
    divergence : the divergence itself, without the square root.

    Notes
    -----
    A distance over reference deciles or the categories, unseen and missing. Base 2 as in NannyML; Evidently takes base e (smaller by
    the factor sqrt(ln 2)), TFDV reports the divergence, its square. It grows with the number of bins in small windows.

    References
    ----------
    J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37 (1991).
    """
    left, right = deciles(binning, reference, current, bins)
    p, q = left / left.sum(), right / right.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / middle), 0.0) + np.where(q > 0, q * np.log2(q / middle), 0.0)
    found = min(max(float(terms.sum()) / 2, 0.0), 1.0) * math.log(2) / math.log(base)
    return Statistic.exact(found if divergence else math.sqrt(found), int(right.sum()))
