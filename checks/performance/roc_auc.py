"""The area under the ROC curve."""

from __future__ import annotations

import numpy as np

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import logit
from checks.performance.counts import QualityCounts

LEAST = 30
"""Rows of each label below which the interval is not trusted."""


@metric("roc_auc", needs_score=True)
def roc_auc(counts: QualityCounts) -> Statistic:
    """The chance that a positive scores above a negative, ties half, in [0, 1].

    Notes
    -----
    From the score bins (a tie is a shared bin). The 95% interval is DeLong's on the logit scale. Nothing when one of
    the labels has fewer than 30 rows.

    References
    ----------
    E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Comparing the areas under two or more correlated receiver
    operating characteristic curves, Biometrics 44 (1988).
    """
    positive, negative = counts.positive, counts.negative
    m, n = float(positive.sum()), float(negative.sum())
    scale = counts.scale
    if min(m, n) * scale < LEAST:
        return Statistic.nothing()
    above = (np.cumsum(negative) - negative / 2) / n
    below = 1 - (np.cumsum(positive) - positive / 2) / m
    value = float(positive @ above) / m
    m, n = m * scale, n * scale
    variance = float(positive * scale @ (above - value) ** 2) / (m - 1) / m + float(negative * scale @ (below - value) ** 2) / (n - 1) / n
    return logit(value, variance, m + n)
