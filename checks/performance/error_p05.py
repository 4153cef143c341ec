"""The 5% quantile of the error."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance.counts import QualityCounts


@metric("error_p05", tasks=("regression",))
def error_p05(counts: QualityCounts) -> Statistic:
    """The value below which 5% of ``prediction - label`` lie, within 1% of its size; the interval is distribution-free."""
    return counts.errors.quantile(0.05, counts.scale, "label")
