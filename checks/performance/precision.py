"""Precision."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("precision", tasks=("binary", "multiclass"), per_class=True)
def precision(counts: QualityCounts) -> Statistic:
    """The share of predicted positives that are positive, in [0, 1]; nothing when none was predicted."""
    return proportion(counts.tp, counts.tp + counts.fp, counts.scale)
