"""Fifteen bins of equal mass of the score, and what is computed over them."""

from __future__ import annotations

import numpy as np

from checks.core.result import Statistic
from checks.performance._interval import REPLICATES, SEED, Z95, Array
from checks.performance.counts import QualityCounts

BINS = 15


def grouped(positive: Array, negative: Array, scores: Array) -> tuple[Array, Array, Array]:
    """Weight, sum of labels and sum of scores of each bin; a score bin lies in one of them whole."""
    weight = positive + negative
    total = float(weight.sum())
    place = np.minimum(((np.cumsum(weight) - weight / 2) / total * BINS).astype(np.int64), BINS - 1)
    return tuple(np.bincount(place, weights=part, minlength=BINS) for part in (weight, positive, scores))  # type: ignore[return-value]


def calibration_error(counts: QualityCounts) -> Statistic:
    """See `checks.performance.ece`."""
    if counts.scored <= 0 or (not counts.scores.any() and counts.score_sum):
        return Statistic.nothing()
    weight, labels, scores = grouped(counts.positive, counts.negative, counts.scores)
    used = weight > 0
    weight, labels, scores = weight[used], labels[used], scores[used]
    rows = np.maximum(np.round(weight * counts.scale), 1)
    chances = np.clip(scores / weight, 0.0, 1.0)
    value, shares = _distance(labels / weight, chances, weight), weight / weight.sum()
    random = np.random.default_rng(SEED)
    noise = np.abs(random.binomial(rows.astype(np.int64), chances, (REPLICATES, len(rows))) / rows - chances) @ shares
    plain = float(np.mean(noise))
    rates = np.clip(labels / weight, 0.0, 1.0)
    again = np.abs(random.binomial(rows.astype(np.int64), rates, (REPLICATES, len(rows))) / rows - chances) @ shares
    # Noise adds less where the bins are far from calibrated: its mean is taken from resamples of what was seen.
    excess = max(float(np.mean(again)) - value, 0.0)
    value = max(value - (plain if value <= plain else min(excess, plain)), 0.0)
    half = Z95 * float(np.std(again))
    return Statistic(value, max(value - half, 0.0), min(value + half, 1.0), max(round(float(counts.scored) * counts.scale), 1))


def _distance(rates: Array, chances: Array, weight: Array) -> float:
    return float(np.abs(rates - chances) @ weight / weight.sum())


def murphy(counts: QualityCounts, part: str) -> Statistic:
    """Reliability or resolution, see their files."""
    if counts.scored <= 0 or (not counts.scores.any() and counts.score_sum):
        return Statistic.nothing()
    weight, labels, scores = grouped(counts.positive, counts.negative, counts.scores)
    used = weight > 0
    weight, labels, scores = weight[used], labels[used], scores[used]
    value = float(_part(weight, labels, scores, part, counts.scale))
    random = np.random.default_rng(SEED)
    rows = np.maximum(np.round(weight * counts.scale), 1).astype(np.int64)
    rates = np.clip(labels / weight, 0.0, 1.0)
    again = random.binomial(rows, rates, (REPLICATES, len(rows))) / rows * weight
    half = Z95 * float(np.std(_part(weight, again, scores, part, counts.scale)))
    return Statistic(max(value, 0.0), max(value - half, 0.0), min(value + half, 1.0), max(round(float(weight.sum()) * counts.scale), 1))


def _part(weight: Array, labels: Array, scores: Array, part: str, scale: float) -> Array:
    rates, shares = labels / weight, weight / weight.sum()
    rows = np.maximum(weight * scale, 2)
    noise = (rates * (1 - rates) / (rows - 1)) @ shares
    if part == "reliability":
        found: Array = ((rates - scores / weight) ** 2) @ shares - noise
        return found
    total = labels.sum(axis=-1, keepdims=True) / weight.sum()
    found = ((rates - total) ** 2) @ shares - noise + (total * (1 - total))[..., 0] / max(rows.sum() - 1, 1)
    return found
