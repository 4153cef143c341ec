"""The root mean squared error."""

from __future__ import annotations

import math

from checks.core.interval import student
from checks.core.result import Statistic
from checks.performance import metric
from checks.performance.counts import QualityCounts


@metric("rmse", tasks=("regression",))
def rmse(counts: QualityCounts) -> Statistic:
    """The square root of the mean squared error in the unit of the label; the interval is even on the log scale."""
    if counts.weight <= 0:
        return Statistic.nothing("label")
    square, fourth = counts.square_error / counts.weight, counts.fourth_error / counts.weight
    value, rows = math.sqrt(square), counts.weight * counts.scale
    if rows < 2 or square <= 0:
        return Statistic(value, 0.0 if rows < 2 else value, math.inf if rows < 2 else value, max(round(rows), 1), "label")
    half = student(rows - 1) * math.sqrt(max(fourth / square**2 - 1, 0.0) / (rows - 1)) / 2
    return Statistic(value, value * math.exp(-half), value * math.exp(half), round(rows), "label")
