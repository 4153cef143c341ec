"""The F1 score."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts


@metric("f1", tasks=("binary", "multiclass"), per_class=True)
def f1(counts: QualityCounts) -> Statistic:
    """The harmonic mean of precision and recall, ``2 tp / (2 tp + fp + fn)``, in [0, 1].

    Notes
    -----
    With ``j = tp / (tp + fp + fn)`` a proportion, F1 is ``2 j / (1 + j)``, which grows with j: the interval is Wilson's
    for j, carried over. Nothing when no row is positive or predicted so.
    """
    found = proportion(counts.tp, counts.tp + counts.fp + counts.fn, counts.scale)
    if found.value is None or found.low is None or found.high is None:
        return found
    value, low, high = (2 * j / (1 + j) for j in (found.value, found.low, found.high))
    return Statistic(value, low, high, found.n)
