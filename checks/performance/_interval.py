"""Intervals of proportions and means."""

from __future__ import annotations

import math

from checks.core.interval import Z95, wilson
from checks.core.result import Statistic


def proportion(successes: int, trials: int) -> Statistic:
    """A share with Wilson's 95% interval; nothing when there are no trials."""
    if not trials:
        return Statistic.nothing()
    low, high = wilson(successes, trials)
    return Statistic(successes / trials, low, high, trials)


def mean(total: float, square: float, n: int, unit: str = "") -> Statistic:
    """A mean with its normal 95% interval, from the sum and the sum of squares of ``n`` rows."""
    if not n:
        return Statistic.nothing(unit)
    value = total / n
    if n == 1:
        return Statistic(value, -math.inf, math.inf, n, unit)
    half = Z95 * math.sqrt(max(square / n - value * value, 0.0) / (n - 1))
    return Statistic(value, value - half, value + half, n, unit)


__all__ = ["Z95", "mean", "proportion", "wilson"]
