"""The log loss."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._interval import mean
from checks.performance.counts import QualityCounts


@metric("log_loss", needs_score=True)
def log_loss(counts: QualityCounts) -> Statistic:
    """The mean of ``-ln`` of the score given to the true label, clipped at 1e-15; in nats, range [0, 34.6]."""
    return mean(counts.loss, counts.loss_square, counts.scored, "nats", counts.scale, counts.loss_cube or None)
