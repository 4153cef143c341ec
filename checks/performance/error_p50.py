"""The 50% quantile of the error."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance.counts import QualityCounts


@metric("error_p50", tasks=("regression",))
def error_p50(counts: QualityCounts) -> Statistic:
    """The value below which 50% of ``prediction - label`` lie, within 1% of its size; the interval is distribution-free."""
    return counts.errors.quantile(0.5, counts.scale, "label")
