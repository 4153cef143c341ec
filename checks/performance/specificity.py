"""Specificity."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("specificity", tasks=("binary", "multiclass"), per_class=True)
def specificity(counts: QualityCounts) -> Statistic:
    """The share of negatives that were predicted negative, in [0, 1]; nothing when no label is negative."""
    return proportion(counts.tn, counts.tn + counts.fp, counts.scale)
