"""The f1 of every class alike."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._macro import macro
from checks.performance.counts import QualityCounts


@metric("macro_f1", tasks=("multiclass",))
def macro_f1(counts: QualityCounts) -> Statistic:
    """The mean of the classes' f1, in [0, 1]; a class without a hit counts as 0. The 95% interval is from 200 Poisson resamples."""
    return macro(counts, "f1")
