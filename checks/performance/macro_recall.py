"""The recall of every class alike."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._macro import macro
from checks.performance.counts import QualityCounts


@metric("macro_recall", tasks=("multiclass",))
def macro_recall(counts: QualityCounts) -> Statistic:
    """The mean of the classes' recall, in [0, 1]; over the classes that occur. The 95% interval is from 200 Poisson resamples."""
    return macro(counts, "recall")
