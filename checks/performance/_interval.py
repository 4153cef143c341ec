"""Intervals of proportions and means, from sums of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from checks.core.interval import Z95, student, wilson
from checks.core.result import Statistic

REPLICATES = 200
SEED = 20130101
Array = NDArray[np.float64]


def proportion(successes: float, trials: float, scale: float = 1.0) -> Statistic:
    """A share with Wilson's 95% interval; nothing when there are no trials. ``scale`` turns weights into rows."""
    if trials <= 0:
        return Statistic.nothing()
    low, high = wilson(successes * scale, trials * scale)
    return Statistic(successes / trials, low, high, max(round(trials * scale), 1))


def mean(total: float, square: float, weight: float, unit: str = "", scale: float = 1.0, cube: float | None = None) -> Statistic:
    """A mean with its 95% interval, from sums of weighted values, their squares and (for skewed ones) cubes.

    Notes
    -----
    Student's t. With ``cube`` the interval is P. Hall's (JRSS B 54, 1992), who removes the skewness of t by a monotone cubic.
    """
    rows = weight * scale
    if weight <= 0:
        return Statistic.nothing(unit)
    value, n = total / weight, max(round(rows), 1)
    if rows < 2:
        return Statistic(value, -math.inf, math.inf, n, unit)
    variance = max(square / weight - value * value, 0.0)
    error, q = math.sqrt(variance / (rows - 1)), student(rows - 1)
    skew = 0.0
    if cube is not None and variance > 1e-300:
        skew = (cube / weight - 3 * value * square / weight + 2 * value**3) / variance**1.5
    return Statistic(value, value - error * _hall(q, skew, rows), value - error * _hall(-q, skew, rows), n, unit)


def _hall(x: float, skew: float, rows: float) -> float:
    """The t whose transformation by Hall is ``x``."""
    a = skew / math.sqrt(rows)
    if abs(a) < 1e-6:
        return x
    base = 1 + a * (x - a / 6)
    return 3 / a * (math.copysign(abs(base) ** (1 / 3), base) - 1)


def delta(value: float, variance: float, n: float, *, low: float = -math.inf, high: float = math.inf) -> Statistic:
    """A value with the interval that its variance gives, kept within its range."""
    half = Z95 * math.sqrt(max(variance, 0.0))
    return Statistic(value, max(value - half, low), min(value + half, high), max(round(n), 1))


def multinomial(function: Callable[[Array], float], cells: Array, scale: float = 1.0) -> Statistic:
    """A smooth function of cell counts with the interval of the delta method; nothing where it is not defined."""
    total = float(cells.sum())
    if total <= 0:
        return Statistic.nothing()
    shares = cells / total
    value = function(shares)
    if not math.isfinite(value):
        return Statistic.nothing()
    step, slopes = 1e-6, np.zeros(len(cells))
    for index in np.flatnonzero(shares):
        above, below = shares.copy(), shares.copy()
        above[index] += step * shares[index]
        below[index] -= step * shares[index]
        slopes[index] = (function(above) - function(below)) / (2 * step * shares[index])
    rows = total * scale
    center = float(slopes @ shares)
    return delta(value, float(shares @ (slopes - center) ** 2) / rows, rows)


def logit(value: float, variance: float, n: float) -> Statistic:
    """A value in (0, 1) with an interval that is even on the logit scale."""
    if not 0 < value < 1:
        return Statistic(value, value, value, max(round(n), 1))
    half = Z95 * math.sqrt(max(variance, 0.0)) / (value * (1 - value))
    at = math.log(value / (1 - value))
    return Statistic(value, 1 / (1 + math.exp(half - at)), 1 / (1 + math.exp(-half - at)), max(round(n), 1))


def replicates(cells: Array, scale: float = 1.0) -> Array:
    """Poisson resamples of counts, shape (200, *cells.shape): the same ones for the same counts."""
    random = np.random.default_rng(SEED)
    return random.poisson(np.maximum(cells * scale, 0.0), (REPLICATES, *cells.shape)) / scale


__all__ = ["Z95", "delta", "logit", "mean", "multinomial", "proportion", "replicates", "wilson"]
