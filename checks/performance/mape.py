"""The mean absolute percentage error."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("mape", tasks=("regression",))
def mape(counts: QualityCounts) -> Statistic:
    """The mean of ``|prediction - label| / |label|``, range [0, inf); rows whose label is zero are left out, and counted."""
    return mean(counts.percentage, counts.percentage_square, counts.weight - counts.zero_targets, "", counts.scale)
