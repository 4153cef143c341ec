"""The mean error."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("bias", tasks=("regression",))
def bias(counts: QualityCounts) -> Statistic:
    """The mean of ``prediction - label`` in the unit of the label: above 0 the model predicts too much."""
    return mean(counts.error, counts.square_error, counts.weight, "label", counts.scale)
