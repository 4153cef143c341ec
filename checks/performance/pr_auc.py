"""The area under the precision-recall curve."""

from __future__ import annotations

import numpy as np

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import Array, logit, replicates
from checks.performance.counts import QualityCounts
from checks.performance.roc_auc import LEAST


@metric("pr_auc", needs_score=True)
def pr_auc(counts: QualityCounts) -> Statistic:
    """Average precision: the mean precision over the positives, each at the threshold of its own score, in [0, 1].

    Notes
    -----
    From the score bins; a tie is a shared bin. The 95% interval is from 200 Poisson resamples, on the logit scale. Nothing when
    fewer than 30 labels are positive.
    """
    positive, negative = counts.positive[::-1], counts.negative[::-1]
    if positive.sum() * counts.scale < LEAST or not negative.sum():
        return Statistic.nothing()
    used = (positive > 0) | (negative > 0)
    cells = np.stack([positive[used], negative[used]])
    value = float(_average(cells))
    again = _average(replicates(cells, counts.scale))
    return logit(value, float(np.var(again)), float(cells.sum()) * counts.scale)


def _average(cells: Array) -> Array:
    hits, rows = np.cumsum(cells[..., 0, :], axis=-1), np.cumsum(cells.sum(axis=-2), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.nansum(cells[..., 0, :] * hits / rows, axis=-1) / hits[..., -1]
    return found
