"""The root mean squared error."""

from __future__ import annotations

import math

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("rmse", tasks=("regression",))
def rmse(counts: QualityCounts) -> Statistic:
    """The square root of the mean squared error in the unit of the label; the interval is the mean square's, rooted."""
    square = mean(counts.square_error, counts.fourth_error, counts.rows, "label")
    if square.value is None or square.low is None or square.high is None:
        return square
    return Statistic(math.sqrt(square.value), math.sqrt(max(square.low, 0.0)), math.sqrt(square.high), square.n, "label")
