"""How good the predictions were: metrics from counts of labelled rows, each with an interval, one file each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from checks.core.registry import Registry
from checks.core.result import Statistic
from checks.performance.counts import QualityCounts


class Metric:
    """A metric with what is known of it before any data.

    Parameters
    ----------
    function : ``QualityCounts -> Statistic``; with ``needs_costs`` it takes the owner's cost matrix, too.
    tasks : the tasks it is defined for.
    needs_score : whether it reads the score and not only the prediction.
    per_class : whether a multiclass task has one value of it for each class.
    """

    def __init__(self, function: Callable[..., Statistic], tasks: tuple[str, ...], needs_score: bool, needs_costs: bool, per_class: bool) -> None:
        self.function = function
        self.tasks = tasks
        self.needs_score = needs_score
        self.needs_costs = needs_costs
        self.per_class = per_class

    def __call__(self, counts: QualityCounts, costs: Mapping[tuple[str, str], float] | None = None) -> Statistic:
        if not counts.rows:
            return Statistic.nothing()
        try:
            with np.errstate(all="ignore"):
                found = self.function(counts, costs or {}) if self.needs_costs else self.function(counts)
        except (OverflowError, ZeroDivisionError):  # of values near the largest number there is
            return Statistic.nothing()
        return _sound(found)


def _sound(found: Statistic) -> Statistic:
    """Nothing where the sums have overflowed; ends that rounding put on the wrong side of the value are put back."""
    if found.value is None or found.low is None or found.high is None:
        return found
    if not math.isfinite(found.value):
        return Statistic.nothing(found.unit)
    low = -math.inf if math.isnan(found.low) else min(found.low, found.value)
    return replace(found, low=low, high=math.inf if math.isnan(found.high) else max(found.high, found.value))


METRICS: Registry[Metric] = Registry("metric", "checks.performance", "driftd.metrics")


def metric(
    kind: str, *, tasks: tuple[str, ...] = ("binary",), needs_score: bool = False, needs_costs: bool = False, per_class: bool = False,
) -> Callable[[Callable[..., Statistic]], Metric]:
    """Register the decorated function as the metric ``kind``."""

    def wrap(function: Callable[..., Statistic]) -> Metric:
        return METRICS.register(kind)(Metric(function, tasks, needs_score, needs_costs, per_class))

    return wrap


DEFAULT_METRICS = {
    "binary": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"),
    "multiclass": ("accuracy", "macro_f1"),
    "regression": ("mae", "rmse", "bias", "r2"),
}
