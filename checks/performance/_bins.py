"""Fifteen bins of equal mass of the score, and what is computed over them."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from checks.core.result import Statistic
from checks.performance._interval import REPLICATES, SEED, Z95, Array
from checks.performance.counts import QualityCounts

BINS = 15


def grouped(counts: QualityCounts) -> tuple[Array, Array, Array] | None:
    """Weight, sum of labels and sum of scores of each bin that has rows; a score bin lies in one of them whole. None without scores."""
    if counts.scored <= 0 or (not counts.scores.any() and counts.score_sum):
        return None
    weight = counts.positive + counts.negative
    place = np.minimum(((np.cumsum(weight) - weight / 2) / float(weight.sum()) * BINS).astype(np.int64), BINS - 1)
    rows, labels, scores = (
        np.bincount(place, weights=part, minlength=BINS).astype(np.float64) for part in (weight, counts.positive, counts.scores)
    )
    used = rows > 0
    return rows[used], labels[used], scores[used]


def calibration_error(counts: QualityCounts) -> Statistic:
    """See `checks.performance.ece`."""
    found = grouped(counts)
    if found is None:
        return Statistic.nothing()
    weight, labels, scores = found
    rows, shares = np.maximum(weight * counts.scale, 2.0), weight / weight.sum()
    chances, rates = np.clip(scores / weight, 0.0, 1.0), labels / weight
    smooth = (labels * counts.scale + 1) / (rows + 2)
    errors = np.sqrt(smooth * (1 - smooth) / rows)
    gaps = rates - chances
    value = float(_debiased(gaps[None], errors, shares)[0])
    # The gaps that the bins may really have, less what noise adds to their squares, drawn again with that noise.
    real = np.sign(gaps) * np.sqrt(np.maximum(gaps**2 - errors**2, 0.0))
    random = np.random.default_rng(SEED)
    again = _debiased(real + errors * random.normal(size=(REPLICATES, len(gaps))), errors, shares)
    half = Z95 * float(np.std(again))
    # What noise adds cannot be told from small gaps: the upper end does not take all of it off.
    high = (value + float(np.abs(gaps) @ shares)) / 2 + half
    return Statistic(max(value, 0.0), max(value - half, 0.0), min(high, 1.0), max(round(float(counts.scored) * counts.scale), 1))


def _debiased(gaps: Array, errors: Array, shares: Array) -> Array:
    """The mean distance, less what normal noise of size ``errors`` adds to each: gaps have shape (draws, bins)."""
    real = np.sqrt(np.maximum(gaps**2 - errors**2, 0.0))
    ratio = real / np.maximum(errors, 1e-12)
    folded = errors * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + real * erf(ratio / np.sqrt(2))
    found: Array = (np.abs(gaps) - (folded - real)) @ shares
    return found


def murphy(counts: QualityCounts, part: str) -> Statistic:
    """Reliability or resolution, see their files."""
    found = grouped(counts)
    if found is None:
        return Statistic.nothing()
    weight, labels, scores = found
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
