"""The expected calibration error."""

from __future__ import annotations

from checks.core.result import Statistic
from checks.performance import metric
from checks.performance._bins import calibration_error
from checks.performance.counts import QualityCounts


@metric("ece", needs_score=True)
def ece(counts: QualityCounts) -> Statistic:
    """The mean distance between score and share of positives over 15 bins of equal mass, in [0, 1], without what noise adds.

    Notes
    -----
    The plain estimate is never 0, not even of a perfectly calibrated model: the excess that labels drawn from the scores
    themselves have is taken off (V. Kumar, P. Liang, T. Ma, Verified uncertainty calibration, 2019, debias alike). The interval is
    from 200 simulated draws of the bins; as noise cannot be told from small gaps, its upper end takes only half of it off.
    """
    return calibration_error(counts)
