"""The F1 score."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import wilson
from checks.performance.counts import QualityCounts


@metric("f1")
def f1(counts: QualityCounts) -> Statistic:
    """The harmonic mean of precision and recall, ``2 tp / (2 tp + fp + fn)``, in [0, 1].

    Notes
    -----
    With ``j = tp / (tp + fp + fn)`` a proportion, F1 is ``2 j / (1 + j)``, which grows with j: the interval is Wilson's
    for j, carried over. Nothing when no row is positive or predicted so.
    """
    trials = counts.tp + counts.fp + counts.fn
    if not trials:
        return Statistic.nothing()
    low, high = wilson(counts.tp, trials)
    return Statistic(2 * counts.tp / (counts.tp + trials), 2 * low / (1 + low), 2 * high / (1 + high), counts.rows)
