"""The Wilcoxon-Mann-Whitney test."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._intervals import within_bins


@statistic("mann_whitney", applies=("numeric",), upper=1.0, neutral=0.5)
def mann_whitney(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """The chance that a current value is larger than one of the reference, ties half: ``U / (n N)``, in [0, 1].

    Notes
    -----
    0.5 is no shift; the effect is an AUC. Rows of both samples in one bin can stand in any order, which the interval says. The
    p-value is two-sided, from the normal law with ties corrected; it assumes independent rows: not for alerting.

    References
    ----------
    H. B. Mann, D. R. Whitney, On a test of whether one of two random variables is stochastically larger than the other, Annals of
    Mathematical Statistics 18 (1947).
    """
    n, m = reference.filled, current.filled
    if not n or not m:
        return Statistic.nothing()
    a, b = reference.counts.astype(np.float64), current.counts.astype(np.float64)
    below = np.cumsum(a) - a
    wins = float((b * (below + a / 2)).sum())
    left, right = within_bins(binning, reference), within_bins(binning, current)
    unsure = float((a * b * ~(left.atom & right.atom & (left.mean == right.mean))).sum()) / 2
    ties = a + b
    whole = n + m
    spread = n * m / 12 * (whole + 1 - float((ties**3 - ties).sum()) / max(whole * (whole - 1.0), 1.0))
    z = (abs(wins - n * m / 2) - 0.5) / math.sqrt(spread) if spread > 0 else 0.0
    pairs = float(n) * m
    value = wins / pairs
    p_value = min(2 * float(ndtr(-max(z, 0.0))), 1.0)
    return Statistic(value, max((wins - unsure) / pairs, 0.0), min((wins + unsure) / pairs, 1.0), m, "AUC", p_value)
