"""The area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import Z95
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
    positive, negative = counts.positive.astype(np.float64), counts.negative.astype(np.float64)
    m, n = float(positive.sum()), float(negative.sum())
    if min(m, n) < LEAST:
        return Statistic.nothing()
    above = (np.cumsum(negative) - negative / 2) / n
    below = 1 - (np.cumsum(positive) - positive / 2) / m
    value = float(positive @ above) / m
    variance = (
        float(positive @ (above - value) ** 2) / (m - 1) / m + float(negative @ (below - value) ** 2) / (n - 1) / n
    )
    if value in (0.0, 1.0) or variance == 0.0:
        return Statistic.exact(value, int(m + n))
    half = Z95 * math.sqrt(variance) / (value * (1 - value))
    logit = math.log(value / (1 - value))
    return Statistic(value, 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit)), int(m + n))
