"""The reliability part of the Brier score."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._bins import murphy
from checks.performance.counts import QualityCounts


@metric("brier_reliability", needs_score=True)
def brier_reliability(counts: QualityCounts) -> Statistic:
    """Murphy's reliability: how far the mean label of each score bin lies from its mean score, squared: 0 is perfectly calibrated. In [0, 1].

    Notes
    -----
    Over 15 bins of equal mass; reliability less resolution plus uncertainty, ``m (1 - m)`` of the mean label m, is the Brier
    score up to the spread of scores inside a bin. The chance part of both, from noise in the bins' mean labels, is taken off.
    The 95% interval is from 200 draws of the bins' labels.

    References
    ----------
    A. H. Murphy, A new vector partition of the probability score, Journal of Applied Meteorology 12 (1973).
    """
    return murphy(counts, "reliability")
