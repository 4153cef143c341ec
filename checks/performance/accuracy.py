"""Accuracy."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("accuracy", tasks=("binary", "multiclass"))
def accuracy(counts: QualityCounts) -> Statistic:
    """The share of labelled rows whose prediction equals the label, in [0, 1], with Wilson's 95% interval."""
    return proportion(counts.correct, counts.weight, counts.scale)
