"""The mean absolute error."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("mae", tasks=("regression",))
def mae(counts: QualityCounts) -> Statistic:
    """The mean of ``|prediction - label|`` in the unit of the label, range [0, inf)."""
    return mean(counts.absolute_error, counts.square_error, counts.weight, "label", counts.scale, counts.absolute_cube or None)
