"""The Brier score."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("brier", needs_score=True)
def brier(counts: QualityCounts) -> Statistic:
    """The mean of ``(label - score)**2``, in [0, 1].

    References
    ----------
    G. W. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78 (1950).
    """
    return mean(counts.residual_square, counts.residual_fourth, counts.scored, "", counts.scale)
