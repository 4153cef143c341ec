"""The F1 score over all rows."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("micro_f1", tasks=("multiclass",))
def micro_f1(counts: QualityCounts) -> Statistic:
    """F1 of all classes' hits and misses together, in [0, 1]: with one label a row it is the accuracy, as are precision and recall."""
    return proportion(counts.correct, counts.weight, counts.scale)
