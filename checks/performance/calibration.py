"""Signed calibration."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("calibration", needs_score=True)
def calibration(counts: QualityCounts) -> Statistic:
    """Mean label less mean score, in [-1, 1]: below 0 the model expects more positives than come."""
    return mean(counts.label_sum - counts.score_sum, counts.residual_square, counts.scored, "", counts.scale)
