"""Matthews' correlation."""

from __future__ import annotations

import math

import numpy as np

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import Array, multinomial
from checks.performance.counts import QualityCounts


@metric("matthews")
def matthews(counts: QualityCounts) -> Statistic:
    """The correlation of prediction and label, in [-1, 1]; nothing when prediction or label has one value only.

    The 95% interval is the delta method's over the four cells, on Fisher's scale.

    References
    ----------
    B. W. Matthews, Comparison of the predicted and observed secondary structure of T4 phage lysozyme, BBA 405 (1975).
    """
    cells = np.array([counts.tn, counts.fn, counts.fp, counts.tp])
    found = multinomial(_correlation, cells, counts.scale)
    if found.value is None or found.low is None or found.high is None or abs(found.value) >= 1:
        return found
    half = (found.high - found.low) / 2 / (1 - found.value**2)
    at = math.atanh(found.value)
    return Statistic(found.value, math.tanh(at - half), math.tanh(at + half), found.n)


def _correlation(cells: Array) -> float:
    tn, fn, fp, tp = cells.tolist()
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(product) if product > 0 else math.nan
