"""How good the predictions were: metrics from counts of labelled rows, each with an interval, one file each."""

from __future__ import annotations

from collections.abc import Callable

from checks.core.registry import Registry
from checks.core.result import Statistic
from checks.performance.counts import QualityCounts


class Metric:
    """A metric with what is known of it before any data.

    Parameters
    ----------
    function : ``QualityCounts -> Statistic``.
    tasks : the tasks it is defined for.
    needs_score : whether it reads the score and not only the prediction.
    """

    def __init__(self, function: Callable[[QualityCounts], Statistic], tasks: tuple[str, ...], needs_score: bool) -> None:
        self.function = function
        self.tasks = tasks
        self.needs_score = needs_score

    def __call__(self, counts: QualityCounts) -> Statistic:
        return self.function(counts) if counts.rows else Statistic.nothing()


METRICS: Registry[Metric] = Registry("metric", "checks.performance", "driftd.metrics")


def metric(kind: str, *, tasks: tuple[str, ...] = ("binary",), needs_score: bool = False) -> Callable[[Callable[[QualityCounts], Statistic]], Metric]:
    """Register the decorated function as the metric ``kind``."""

    def wrap(function: Callable[[QualityCounts], Statistic]) -> Metric:
        return METRICS.register(kind)(Metric(function, tasks, needs_score))

    return wrap


DEFAULT_METRICS = {
    "binary": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"),
    "multiclass": ("accuracy",),
    "regression": ("mae", "rmse"),
}
