"""What a metric can still become when not every row has its label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

from checks.core.result import Statistic, Threshold, Verdict
from checks.performance import METRICS
from checks.performance.counts import CLIP, QualityCounts
from checks.performance.methods.counted import Waiting

COUNTED = frozenset({"accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy", "matthews", "business_value"})
MEANS = frozenset({"log_loss", "brier", "calibration"})
ERRORS = frozenset({"mae", "rmse"})


def completed(counts: QualityCounts, open_rows: Waiting, *, right: bool) -> QualityCounts:
    """The counts if every waiting row were predicted right (or wrong)."""
    found = deepcopy(counts)
    waiting, positive = open_rows.weight, open_rows.positive
    found.rows += round(open_rows.rows)
    found.weight += waiting
    found.weight_square += open_rows.weight_square
    if right:
        found.tp, found.tn = found.tp + positive, found.tn + waiting - positive
        found.correct += waiting
    else:
        found.fp, found.fn = found.fp + positive, found.fn + waiting - positive
    if counts.scored:
        worst = 0.0 if right else 1.0
        loss = -math.log(1 - CLIP) if right else -math.log(CLIP)
        found.scored += waiting
        found.residual_square += worst * waiting
        found.residual_fourth += worst * waiting
        found.loss, found.loss_square, found.loss_cube = (
            old + loss**power * waiting for power, old in enumerate((found.loss, found.loss_square, found.loss_cube), 1)
        )
    return found


def reachable(
    kind: str, counts: QualityCounts, open_rows: Waiting, costs: Mapping[tuple[str, str], float] | None = None,
) -> tuple[float, float] | None:
    """The lowest and highest value that the metric's interval can reach, whatever the labels to come say; None if nothing bounds it.

    Without an assumption on which rows are labelled first: the waiting rows may all be right, or all wrong.
    """
    waiting = open_rows.weight
    if kind in ERRORS:
        found = METRICS[kind](counts)
        if found.low is None:
            return None
        share = counts.weight / (counts.weight + waiting)
        return (found.low * share if kind == "mae" else found.low * math.sqrt(share), math.inf)
    if kind == "calibration":
        found = METRICS[kind](counts)
        if found.low is None or found.high is None:
            return None
        share = counts.scored / (counts.scored + waiting)
        return found.low * share - (1 - share), found.high * share + 1 - share
    if kind not in COUNTED | MEANS or (counts.classes and kind != "accuracy"):
        return None
    ends = [METRICS[kind](completed(counts, open_rows, right=right), costs) for right in (True, False)]
    known = [end for end in ends if end.low is not None and end.high is not None]
    if len(known) < 2:
        return None
    return min(e.low for e in known if e.low is not None), max(e.high for e in known if e.high is not None)


def certain(threshold: Threshold, ends: tuple[float, float] | None) -> Verdict | None:
    """The breach that no further label can undo, or None."""
    if ends is None:
        return None
    low, high = ends
    for verdict, above, below in (
        (Verdict.FAIL, threshold.fail_above, threshold.fail_below), (Verdict.WARN, threshold.warn_above, threshold.warn_below),
    ):
        if (above is not None and low > above) or (below is not None and high < below):
            return verdict
    return None


def smallest_change(value: Statistic) -> float | None:
    """The smallest change of a metric that its rows would have shown, 95% sure and in 4 of 5 cases: 2.8 standard errors."""
    if value.low is None or value.high is None or not math.isfinite(value.high - value.low):
        return None
    return 2.802 * (value.high - value.low) / (2 * 1.96)
