"""Recall."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("recall", tasks=("binary", "multiclass"), per_class=True)
def recall(counts: QualityCounts) -> Statistic:
    """The share of positives that were predicted positive, in [0, 1]; nothing when no label is positive."""
    return proportion(counts.tp, counts.tp + counts.fn, counts.scale)
