"""The precision of every class alike."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._macro import macro
from checks.performance.counts import QualityCounts


@metric("macro_precision", tasks=("multiclass",))
def macro_precision(counts: QualityCounts) -> Statistic:
    """The mean of the classes' precision, in [0, 1]; a class that was never predicted counts as 0. The 95% interval is from 200 Poisson resamples."""
    return macro(counts, "precision")
