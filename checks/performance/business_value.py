"""Business value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts

Costs = Mapping[tuple[str, str], float]
BINARY = ("0", "1")


@metric("business_value", tasks=("binary", "multiclass"), needs_costs=True)
def business_value(counts: QualityCounts, costs: Costs) -> Statistic:
    """The mean value of a row under the owner's matrix, ``value[label, prediction]``, in its unit."""
    names = BINARY if not counts.classes else counts.classes
    cells = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]]) if not counts.classes else counts.confusion
    values = np.array([[costs.get((label, predicted), 0.0) for predicted in names] for label in names])
    total, square = float((cells * values).sum()), float((cells * values**2).sum())
    return mean(total, square, float(cells.sum()), "value", counts.scale)
