"""Two versions on the same traffic: better, worse, equivalent or undecided, at any time, however often one looks.

Within one window the versions meet the same rows, so what changes from day to day does not tell them apart. Evidence is a product
over windows of likelihood ratios, mixed over the size of the difference; without a difference its mean never rises above one, so that
it exceeds 1 / alpha with a chance of at most alpha, ever (Ville). One may look after every window, and stop at will.

References
----------
M. Lindon, A. Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022: mixtures over counts. R. Turner, A. Ly, P.
Grünwald, Generic e-variables for exact sequential k-sample tests, 2022. S. R. Howard et al., Time-uniform, nonparametric, nonasymptotic
confidence sequences, Annals of Statistics 49 (2021): the normal mixture. Q. McNemar (1947), X. Sun, W. Xu, Fast implementation of
DeLong's algorithm, IEEE Signal Processing Letters 21 (2014), for paired rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, logsumexp

from checks.core.interval import Z95
from checks.performance.counts import QualityCounts
from checks.performance.methods.counted import Pairs

Array = NDArray[np.float64]
ALPHA = 0.01
"""The chance that a comparison without a difference is ever called better or worse."""

RATIOS = np.sinh(np.linspace(-5.0, 5.0, 401)) * (3.0 / math.sinh(5.0))
"""Grid of log odds ratios from -3 to 3, finest about zero."""

MIDDLE = len(RATIOS) // 2
MOST_VALUES = 20_000

SPREAD = (0.05, 0.2, 0.7)
"""The mixture's standard deviations of the log odds ratio: small, middling and large differences alike."""

LEAST = 30
"""Rows of each version in a window from which it is compared by its mean error."""

PARTS = {"accuracy": ("correct", "wrong"), "precision": ("tp", "fp"), "recall": ("tp", "fn"), "specificity": ("tn", "fp")}
METRICS = (*PARTS, "log_loss", "brier", "mae")
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second version against the first: ``evidence`` against no difference, and the difference with what it may be.

    ``evidence`` of 100 or more decides; ``low`` and ``high`` hold the difference (second less first) at all times with 99%.
    """

    verdict: str
    metric: str
    evidence: float
    difference: float | None
    low: float | None
    high: float | None
    first: float | None
    second: float | None
    rows: tuple[int, int]
    windows: int
    reason: str


def _prior() -> Array:
    weights = np.gradient(RATIOS) * sum((np.exp(-0.5 * (RATIOS / s) ** 2) / s for s in SPREAD), np.zeros(len(RATIOS)))
    found: Array = weights / weights.sum()
    return found


def hypergeometric(x: float, n1: float, n2: float, hits: float) -> Array:
    """Log likelihood of every log odds ratio in `RATIOS`, given both rows and the hits of both together.

    ``x`` of the ``hits`` are the second version's, of its ``n2`` rows. The number of hits is given, so the share of hits may
    differ from window to window as it likes; so may the traffic of both.
    """
    low, high = max(0.0, hits - n1), min(hits, n2)
    values = np.arange(low, high + 1)
    if len(values) > MOST_VALUES:  # equal steps, finer than its spread, sum so smooth a function as well
        values = np.linspace(low, high, MOST_VALUES)
    choose = _choose(n2, values) + _choose(n1, hits - values)
    step = math.log(values[1] - values[0]) if len(values) > 1 else 0.0
    terms = choose[:, None] + values[:, None] * RATIOS
    peak = terms.max(axis=0)
    norm = peak + np.log(np.exp(terms - peak).sum(axis=0)) + step
    found: Array = _choose(n2, np.array([x]))[0] + _choose(n1, np.array([hits - x]))[0] + x * RATIOS - norm
    return found


def _choose(n: float, k: Array) -> Array:
    found: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def _hits(counts: QualityCounts, metric: str) -> tuple[float, float]:
    """Hits and trials, as whole numbers of rows."""
    good, bad = PARTS[metric]
    hits = getattr(counts, good)
    trials = counts.weight if bad == "wrong" else hits + getattr(counts, bad)
    return round(hits * counts.scale), round(trials * counts.scale)


def compare(windows: Sequence[tuple[QualityCounts, QualityCounts]], metric: str, margin: float) -> Comparison:
    """Compare the second with the first of each pair of counts, window by window.

    ``margin`` is how much a difference may be and still be none: of the metric, or of its size where lower is better.
    """
    if metric in PARTS:
        return _by_counts(windows, metric, margin)
    return _by_means(windows, metric, margin)


def _by_counts(windows: Sequence[tuple[QualityCounts, QualityCounts]], metric: str, margin: float) -> Comparison:
    total, used = np.zeros(len(RATIOS)), 0
    sums, alike = np.zeros(4), np.zeros(3)
    for first, second in windows:
        (x1, n1), (x2, n2) = _hits(first, metric), _hits(second, metric)
        if not n1 or not n2:
            continue
        used += 1
        sums += (x1, n1, x2, n2)
        alike += np.array([x1 / n1, x2 / n2, 1.0]) * n1 * n2 / (n1 + n2)
        if 0 < x1 + x2 < n1 + n2:
            total += hypergeometric(x2, n1, n2, x1 + x2)
    _, n1, _, n2 = sums.tolist()
    if not used:
        return _nothing(metric)
    mixed = float(logsumexp(total, b=_prior()))
    evidence = mixed - float(total[MIDDLE])
    likely = np.flatnonzero(mixed - total < math.log(1 / ALPHA))
    likely = np.append(likely, np.argmax(total))
    # Each window weighs alike for both: shares of all rows together would compare days, where the traffic's split has changed.
    p1, p2 = (alike[:2] / alike[2]).tolist()
    first_kept, last_kept = max(int(likely.min()) - 1, 0), min(int(likely.max()) + 1, len(RATIOS) - 1)
    low = -1.0 if first_kept == 0 else _gap(float(RATIOS[first_kept]), p1, p2)
    high = 1.0 if last_kept == len(RATIOS) - 1 else _gap(float(RATIOS[last_kept]), p1, p2)
    return _settled(metric, evidence, p1, p2, low, high, margin, (round(n1), round(n2)), used)


def _gap(ratio: float, p1: float, p2: float) -> float:
    """The difference of two shares whose log odds ratio it is, about the middle of the two that were seen."""
    middle = min(max((p1 + p2) / 2, 1e-9), 1 - 1e-9)
    at = math.log(middle / (1 - middle))
    return 1 / (1 + math.exp(-(at + ratio / 2))) - 1 / (1 + math.exp(-(at - ratio / 2)))


def _mean(counts: QualityCounts, metric: str) -> tuple[float, float, float]:
    """Mean, its variance, and rows."""
    total, square, weight = {
        "log_loss": (counts.loss, counts.loss_square, counts.scored),
        "brier": (counts.residual_square, counts.residual_fourth, counts.scored),
        "mae": (counts.absolute_error, counts.square_error, counts.weight),
    }[metric]
    rows = weight * counts.scale
    if rows < LEAST:
        return 0.0, 0.0, 0.0
    value = total / weight
    return value, max(square / weight - value * value, 0.0) / (rows - 1), rows


def _by_means(windows: Sequence[tuple[QualityCounts, QualityCounts]], metric: str, margin: float) -> Comparison:
    walk = _Walk()
    used, rows, sums, weights = 0, [0.0, 0.0], [0.0, 0.0], 0.0
    for first, second in windows:
        (m1, v1, n1), (m2, v2, n2) = _mean(first, metric), _mean(second, metric)
        if not n1 or not n2 or v1 + v2 <= 0:
            continue
        used += 1
        for at, (m, n) in enumerate(((m1, n1), (m2, n2))):
            rows[at] += n
            sums[at] += m * n1 * n2 / (n1 + n2)
        weights += n1 * n2 / (n1 + n2)
        # Both versions' rows have one variance if they do not differ: a weight from each one's own would lean to the smaller mean.
        pooled = (v1 * (n1 - 1) * n1 + v2 * (n2 - 1) * n2) / (n1 + n2 - 2) + (m2 - m1) ** 2 * n1 * n2 / (n1 + n2) / (n1 + n2 - 1)
        walk.step(m2 - m1, n1 * n2 / (n1 + n2), pooled)
    if not used:
        return _nothing(metric)
    p1, p2 = sums[0] / weights, sums[1] / weights
    return walk.settled(metric, p1, p2, margin * abs(p1), (round(rows[0]), round(rows[1])), used)


@dataclass(slots=True)
class _Walk:
    """The sum of differences, each weighted by the rows behind it, its variance, and the normal mixture of both.

    The mixture's variance is fixed by the first window: a difference as large as that one could just show.
    """

    score: float = 0.0
    weight: float = 0.0
    variance: float = 0.0
    first: float = 0.0

    def step(self, gap: float, weight: float, variance: float) -> None:
        """One more window, with the variance of a single row."""
        self.score += weight * gap
        self.weight += weight
        self.variance += weight * variance
        self.first = self.first or self.variance

    def settled(self, metric: str, p1: float, p2: float, margin: float, rows: tuple[int, int], used: int) -> Comparison:
        """The verdict on all steps."""
        if self.first <= 0:
            return _nothing(metric, "every row has the same error")
        ratio = 1 + self.variance / self.first
        evidence = self.score**2 / self.first / (2 * ratio) - 0.5 * math.log(ratio)
        half = math.sqrt(ratio * self.first * (2 * math.log(1 / ALPHA) + math.log(ratio))) / self.weight
        gap = self.score / self.weight
        return _settled(metric, evidence, p1, p2, gap - half, gap + half, margin, rows, used)


def _settled(
    metric: str, evidence: float, p1: float, p2: float, low: float, high: float, margin: float, rows: tuple[int, int], used: int,
) -> Comparison:
    gap = p2 - p1
    better = (high < 0) if metric in LOWER_IS_BETTER else (low > 0)
    worse = (low > 0) if metric in LOWER_IS_BETTER else (high < 0)
    shown = f"{p2:.4g} against {p1:.4g}, difference {low:.3g} to {high:.3g}"
    if max(abs(low), abs(high)) <= margin:
        verdict, why = "equivalent", f"{shown}: within {margin:.3g} either way"
    elif evidence >= math.log(1 / ALPHA) and (better or worse):
        verdict, why = ("better" if better else "worse"), f"{shown}"
    else:
        verdict, why = "undecided", f"{shown}: it may be either; more windows are needed"
    return Comparison(verdict, metric, math.exp(min(evidence, 700.0)), gap, low, high, p1, p2, rows, used, why)


def _nothing(metric: str, why: str = "the versions never served labelled rows of the same window") -> Comparison:
    return Comparison("undecided", metric, 1.0, None, None, None, None, None, (0, 0), 0, why)


def paired(pairs: Sequence[Pairs], margin: float, *, regression: bool) -> Comparison:
    """Two versions that predicted the same rows: McNemar's discordant rows, or the mean difference of absolute errors.

    Only rows on which one is right and the other wrong tell them apart: without a difference each is as likely. The evidence mixes
    the share of them evenly.
    """
    rows = sum(p.rows for p in pairs)
    if not rows:
        return _nothing("mae" if regression else "accuracy", "the versions never predicted the same labelled row")
    n = (round(rows), round(rows))
    if regression:
        used = [p for p in pairs if p.rows >= LEAST]
        walk = _Walk()
        for p in used:
            mean = p.gap / p.rows
            walk.step(-mean, p.rows, max(p.gap_square / p.rows - mean * mean, 0.0))
        if not used:
            return _nothing("mae", f"no window has {LEAST} rows that both predicted")
        return walk.settled("mae", 0.0, -sum(p.gap for p in pairs) / rows, margin, n, len(used))
    first, second, both = (sum(getattr(p, name) for p in pairs) for name in ("first", "second", "both"))
    discordant = first + second
    evidence = float(betaln(1 + first, 1 + second) - betaln(1, 1)) + discordant * math.log(2)
    shares = np.linspace(0.001, 0.999, 999)
    own = second * np.log(shares) + first * np.log(1 - shares)
    kept = shares[float(betaln(1 + first, 1 + second)) - own < math.log(1 / ALPHA)]
    weight = discordant / rows
    low, high = ((2 * kept[0] - 1) * weight, (2 * kept[-1] - 1) * weight) if len(kept) else (0.0, 0.0)
    # How many rows are discordant is itself known only so well.
    slack = Z95 * math.sqrt(weight * (1 - weight) / rows)
    found = _settled(
        "accuracy", evidence, (both + first) / rows, (both + second) / rows, low - slack * abs(low) / max(weight, 1e-9),
        high + slack * abs(high) / max(weight, 1e-9), margin, n, len(pairs),
    )
    return found


def paired_delong(scores: tuple[Array, Array], labels: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """The areas under both ROC curves of the same rows, and the difference's 95% interval; None below 30 rows of each label.

    For one look: unlike the evidence above it does not hold for many.
    """
    positive, negative = labels, ~labels
    m, n = int(positive.sum()), int(negative.sum())
    if min(m, n) < 30:
        return None
    from scipy.stats import rankdata

    areas, tens, ones = [], [], []
    for score in scores:
        x, y = score[positive], score[negative]
        every, own, other = rankdata(np.r_[x, y]), rankdata(x), rankdata(y)
        ten = (every[:m] - own) / n
        one = 1 - (every[m:] - other) / m
        areas.append(float(ten.mean()))
        tens.append(ten)
        ones.append(one)
    covariance = np.cov(np.stack(tens)) / m + np.cov(np.stack(ones)) / n
    gap = areas[1] - areas[0]
    half = Z95 * math.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0))
    return areas[0], areas[1], gap - half, gap + half
