"""Intervals of proportions and means."""

from __future__ import annotations

import math

from checks.core.result import Statistic

Z95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of a proportion (E. B. Wilson, JASA 22, 1927); ``trials`` must be positive."""
    share = successes / trials
    denominator = 1 + z * z / trials
    center = (share + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / denominator
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == trials else min(1.0, center + half)
    return low, high


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
