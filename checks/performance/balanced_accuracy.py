"""Balanced accuracy."""

from __future__ import annotations

import math

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("balanced_accuracy")
def balanced_accuracy(counts: QualityCounts) -> Statistic:
    """The mean of recall and specificity, in [0, 1]; nothing when one of the labels is missing.

    Notes
    -----
    The interval squares and adds what Wilson's intervals of the two leave on each side (R. G. Newcombe 1998; G. Y. Zou, A. Donner,
    Statistics in Medicine 27, 2008).
    """
    parts = [
        proportion(hits, trials, counts.scale)
        for hits, trials in ((counts.tp, counts.tp + counts.fn), (counts.tn, counts.tn + counts.fp))
    ]
    if any(part.value is None for part in parts):
        return Statistic.nothing()
    value = sum(part.value or 0.0 for part in parts) / 2
    below = math.hypot(*((part.value or 0.0) - (part.low or 0.0) for part in parts)) / 2
    above = math.hypot(*((part.high or 0.0) - (part.value or 0.0) for part in parts)) / 2
    return Statistic(value, value - below, value + above, sum(part.n for part in parts))
