"""Quality without labels: confidence-based estimates of a classification, an error model of a regression.

Both read what the model gives out and how reliable that was in the reference. They see changes of the inputs that reach the
scores, and are blind to concept drift: labels that no longer follow from the inputs as they did.

References
----------
W. Bialek et al., NannyML, Estimation of performance of the monitored model: confidence-based performance estimation (CBPE). R.
Zadrozny, C. Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002 (isotonic calibration).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.core.binning import Binning
from checks.core.column import ColumnProfile
from checks.core.outputs import SCORE_BINS, OutputCounts, output_shape
from checks.performance.counts import CLIP, GRADES, QualityCounts, grade

Array = NDArray[np.float64]

LEAST_ROWS = 300
"""Labelled reference rows from which calibration or an error model is learned."""

LEAST_OF_EACH = 30
FOLDS = 5
MIDDLES = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS


@dataclass(frozen=True, slots=True)
class Calibrator:
    """The chance of a positive label by score bin, shape (512,); ``isotonic`` says whether it differs from the score itself."""

    chances: Array
    isotonic: bool
    rows: float
    gain: float = 0.0


def uniform(counts: QualityCounts) -> tuple[Array, Array, Array]:
    """Positives, negatives and sums of scores by the even bins in which outputs are counted: a finer bin goes where its mean lies."""
    weight = counts.positive + counts.negative
    used = np.flatnonzero(weight)
    place = np.minimum((counts.scores[used] / weight[used] * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    found = (np.bincount(place, weights=part[used], minlength=SCORE_BINS) for part in (counts.positive, counts.negative, counts.scores))
    return tuple(found)  # type: ignore[return-value]


CROWDED = 0.2
"""Share of the rows in one bin from which on scores lie too close together for estimates of areas and losses."""


def learn(windows: Sequence[QualityCounts]) -> Calibrator | str:
    """Calibration from the labelled counts of reference windows; or, in words, why there is none.

    Isotonic regression is used only where it lowers the calibration error of windows that it has not seen.
    """
    even = [uniform(c) for c in windows]
    positive, negative, scores = (np.sum([e[at] for e in even], axis=0) if even else np.zeros(SCORE_BINS) for at in range(3))
    rows = float(sum((c.positive.sum() + c.negative.sum()) * c.scale for c in windows))
    if rows < LEAST_ROWS:
        return f"the reference has {rows:.0f} labelled rows with a score; {LEAST_ROWS} are needed"
    if min(positive.sum(), negative.sum()) < LEAST_OF_EACH:
        return f"the reference has fewer than {LEAST_OF_EACH} labels of one kind"
    weight = positive + negative
    plain = np.where(weight > 0, np.divide(scores, weight, out=MIDDLES.copy(), where=weight > 0), MIDDLES)
    fold_of = np.arange(len(windows)) % FOLDS
    if len(windows) < FOLDS:
        return Calibrator(plain, False, rows)
    raw = fitted = 0.0
    for fold in range(FOLDS):
        inside = [e for e, f in zip(even, fold_of, strict=True) if f != fold]
        held = [e for e, f in zip(even, fold_of, strict=True) if f == fold]
        p, n = (np.sum([e[at] for e in held], axis=0) for at in range(2))
        model = isotonic(np.sum([e[0] for e in inside], axis=0), np.sum([e[1] for e in inside], axis=0), plain)
        raw += _error(plain, p, n)
        fitted += _error(model, p, n)
    gain = (raw - fitted) / max(float(weight.sum()), 1e-300)
    return Calibrator(isotonic(positive, negative, plain), True, rows, gain) if gain > 0 else Calibrator(plain, False, rows, gain)


def _error(chances: Array, positive: Array, negative: Array) -> float:
    """The calibration error over 15 bins of equal mass, times the rows."""
    weight = positive + negative
    total = float(weight.sum())
    if not total:
        return 0.0
    order = np.argsort(chances, kind="stable")
    weight, gap = weight[order], (positive - weight * chances)[order]
    place = np.minimum(((np.cumsum(weight) - weight / 2) / total * 15).astype(np.int64), 14)
    return float(np.abs(np.bincount(place, weights=gap, minlength=15)).sum())


def isotonic(positive: Array, negative: Array, plain: Array) -> Array:
    """The rising curve nearest to the bins' shares of positives (pool adjacent violators); ``plain`` fills bins without rows."""
    weight = positive + negative
    used = np.flatnonzero(weight)
    blocks: list[list[float]] = []
    for at in used.tolist():
        blocks.append([positive[at] / weight[at], weight[at], 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, mass, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + value * mass) / (last[1] + mass)
            last[1] += mass
            last[2] += count
    levels = np.repeat([b[0] for b in blocks], [int(b[2]) for b in blocks])
    if not len(used):
        return plain
    found: Array = np.interp(np.arange(SCORE_BINS), used, levels)
    return np.clip(found, 1e-6, 1 - 1e-6)


def expected_counts(
    binning: Binning, outputs: OutputCounts, calibrator: Calibrator, positives: Sequence[bool] | None, *, always: bool = False,
) -> QualityCounts:
    """The counts that labels are expected to give: fractions of rows, true with the calibrated chance of their score bin.

    ``positives`` says which predicted classes (with other and missing) are positive; None: a score of 0.5 decides. ``always``: the
    score is that of the predicted class, and says how likely it is right.
    """
    joint = outputs.dense(output_shape(binning)).sum(axis=2).astype(np.float64)[:SCORE_BINS]
    if always:
        return expected_of(joint.sum(axis=1), joint.sum(axis=1), calibrator)
    chosen = None if positives is None else joint[:, np.array(positives, bool)].sum(axis=1)
    return expected_of(joint.sum(axis=1), chosen, calibrator)


def expected_of(by_bin: Array, chosen: Array | None, calibrator: Calibrator) -> QualityCounts:
    """The same from rows by score bin; ``chosen`` of them are predicted positive, None: those with a score from 0.5 on."""
    c = calibrator.chances
    if chosen is None:
        chosen = np.where(np.arange(SCORE_BINS) >= SCORE_BINS // 2, by_bin, 0.0)
    rest = by_bin - chosen
    rows = float(by_bin.sum())
    counts = QualityCounts(rows=round(rows), weight=rows, weight_square=rows, scored=rows)
    counts.tp, counts.fp = float(chosen @ c), float(chosen @ (1 - c))
    counts.fn, counts.tn = float(rest @ c), float(rest @ (1 - c))
    counts.correct = counts.tp + counts.tn
    place = grade(MIDDLES)
    for name, part in (("positive", by_bin * c), ("negative", by_bin * (1 - c)), ("scores", by_bin * MIDDLES)):
        setattr(counts, name, np.bincount(place, weights=part, minlength=GRADES))
    s = np.clip(MIDDLES, CLIP, 1 - CLIP)
    counts.score_sum, counts.label_sum = float(by_bin @ MIDDLES), float(by_bin @ c)
    for power, name in enumerate(("loss", "loss_square", "loss_cube"), 1):
        setattr(counts, name, float(by_bin @ (c * (-np.log(s)) ** power + (1 - c) * (-np.log(1 - s)) ** power)))
    for power, name in ((2, "residual_square"), (4, "residual_fourth")):
        setattr(counts, name, float(by_bin @ (c * (1 - MIDDLES) ** power + (1 - c) * MIDDLES**power)))
    return counts


ESTIMABLE = frozenset({
    "accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy", "matthews", "roc_auc", "pr_auc", "log_loss", "brier",
    "calibration", "business_value",
})
BY_ORDER = frozenset({"roc_auc", "pr_auc", "log_loss", "brier"})
"""Estimates that need the scores themselves, not only which side of 0.5 they lie on."""

ESTIMABLE_ERRORS = frozenset({"mae", "rmse"})


def expected_errors(column: ColumnProfile, model: Array) -> QualityCounts | None:
    """The errors that predictions with these bins had in the reference; None where most of them are in bins without any.

    ``model`` holds rows, absolute and squared errors by bin of the prediction.
    """
    counts = column.counts.astype(np.float64)
    if model.shape != (len(counts), 3) or model[:, 0].sum() < LEAST_ROWS:
        return None
    rows = float(counts.sum())
    known = model[:, 0] >= 5
    if not rows or counts[known].sum() < 0.5 * rows:
        return None
    at = np.flatnonzero(known)
    absolute = np.interp(np.arange(len(counts)), at, model[at, 1] / model[at, 0])
    square = np.interp(np.arange(len(counts)), at, model[at, 2] / model[at, 0])
    found = QualityCounts(rows=round(rows), weight=rows, weight_square=rows)
    found.absolute_error, found.square_error = float(counts @ absolute), float(counts @ square)
    found.fourth_error = float(counts @ (3 * square**2))
    return found
