"""The coefficient of determination."""

from __future__ import annotations

import math

from checks.core.interval import student
from checks.core.result import Statistic
from checks.performance import metric
from checks.performance.counts import QualityCounts


@metric("r2", tasks=("regression",))
def r2(counts: QualityCounts) -> Statistic:
    """``1 - sum((label - prediction)**2) / sum((label - mean label)**2)``, in (-inf, 1]; nothing when all labels are equal.

    Notes
    -----
    The interval is the delta method's for the logarithm of the ratio, with the covariance of both sums.
    """
    w, rows = counts.weight, counts.weight * counts.scale
    if w <= 0 or rows < 3:
        return Statistic.nothing()
    m = counts.target / w
    variance = counts.target_square / w - m * m
    if variance <= 1e-12 * max(m * m, 1e-300):
        return Statistic.nothing()
    square = counts.square_error / w
    value = 1 - square / variance
    if square <= 0:
        return Statistic(1.0, 1.0, 1.0, round(rows))
    fourth = (counts.target_fourth - 4 * m * counts.target_cube + 6 * m * m * counts.target_square) / w - 3 * m**4
    cross = (counts.error_target_square - 2 * m * counts.error_target) / w + m * m * square
    influence = counts.fourth_error / w / square**2 - 2 * cross / (square * variance) + fourth / variance**2
    half = student(rows - 2) * math.sqrt(max(influence, 0.0) / (rows - 2))
    return Statistic(value, 1 - (1 - value) * math.exp(half), 1 - (1 - value) * math.exp(-half), round(rows))
