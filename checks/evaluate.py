"""The only place where a verdict is made of a statistic and a threshold."""

from __future__ import annotations

import math

from checks.core.result import CheckResult, Statistic, Threshold, Verdict


def evaluate(statistic: Statistic, threshold: Threshold, min_n: int = 0) -> CheckResult:
    """Compare the whole interval of ``statistic`` with ``threshold``.

    A limit is broken when the interval lies beyond it, not when only the point does. A NaN or infinite number is
    `ERROR`, never compared; no rows are `NO_DATA`, fewer than ``min_n`` are `INSUFFICIENT`.
    """
    if statistic.n == 0 or statistic.value is None:
        return CheckResult(statistic, Verdict.NO_DATA, "there are no rows to measure", cleared=False)
    if statistic.n < min_n:
        return CheckResult(statistic, Verdict.INSUFFICIENT, f"{statistic.n} rows; {min_n} are needed", cleared=False)
    low = statistic.value if statistic.low is None else statistic.low
    high = statistic.value if statistic.high is None else statistic.high
    if not all(map(math.isfinite, (statistic.value, low, high))):
        return CheckResult(statistic, Verdict.ERROR, f"the value is {statistic.value}, not a finite number", cleared=False)
    shown = f"{statistic.value:.4g} [{low:.4g}, {high:.4g}]"
    for verdict, above, below in (
        (Verdict.FAIL, threshold.fail_above, threshold.fail_below),
        (Verdict.WARN, threshold.warn_above, threshold.warn_below),
    ):
        if above is not None and low > above:
            return CheckResult(statistic, verdict, f"{shown} is above {above:g}", cleared=False)
        if below is not None and high < below:
            return CheckResult(statistic, verdict, f"{shown} is below {below:g}", cleared=False)
    cleared = True
    if threshold.clear_below is not None:
        cleared = statistic.value <= threshold.clear_below
    if threshold.clear_above is not None:
        cleared = cleared and statistic.value >= threshold.clear_above
    return CheckResult(statistic, Verdict.PASS, f"{shown} is within the limits ({threshold})", cleared=cleared)
