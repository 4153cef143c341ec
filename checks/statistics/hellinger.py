"""The Hellinger distance."""

from __future__ import annotations

import math

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import deciles


@statistic("hellinger", symmetric=True, upper=1.0)
def hellinger(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, bins: int = 10) -> Statistic:
    """``sqrt(1 - sum sqrt(p q))`` over reference deciles or the categories, unseen and missing, in [0, 1].

    Notes
    -----
    No unit. It grows with the number of bins in small windows: about ``sqrt(K / 8 n)`` on identical distributions.

    References
    ----------
    E. Hellinger, Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen, Journal für die reine und
    angewandte Mathematik 136 (1909).
    """
    left, right = deciles(binning, reference, current, bins)
    overlap = float(np.sqrt(left / left.sum() * right / right.sum()).sum())
    return Statistic.exact(math.sqrt(max(1 - overlap, 0.0)) if overlap < 1 - 1e-15 else 0.0, int(right.sum()))
