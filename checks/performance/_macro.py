"""Means over the classes of a confusion matrix."""

from __future__ import annotations

import numpy as np

from checks.core.result import Statistic
from checks.performance._interval import Array, logit, replicates
from checks.performance.counts import QualityCounts


def macro(counts: QualityCounts, kind: str) -> Statistic:
    """The mean of ``precision``, ``recall`` or ``f1`` over classes that occur as label or prediction."""
    cells = counts.confusion
    if not cells.sum():
        return Statistic.nothing()
    value, rows = float(_mean(cells, kind)), counts.weight * counts.scale
    again = _mean(replicates(cells, counts.scale), kind)
    return logit(value, float(np.nanvar(again)) * rows / max(rows - cells.shape[0], 1.0), rows)


def _mean(cells: Array, kind: str) -> Array:
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    labels, predicted = cells.sum(axis=-1), cells.sum(axis=-2)
    below = {"precision": predicted, "recall": labels, "f1": (labels + predicted) / 2}[kind]
    counted = labels > 0 if kind == "recall" else (labels > 0) | (predicted > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(below > 0, hits / below, 0.0)
        found: Array = np.where(counted, shares, 0.0).sum(axis=-1) / counted.sum(axis=-1)
    return found
