"""Slices in which the model is worst, found without being named, and confirmed on rows that had no part in finding them.

References
----------
S. Sagadeeva, M. Boehm, SliceLine: fast, linear-algebra-based slice finding for ML model debugging, SIGMOD 2021. Y. Benjamini, Y.
Hochberg, Controlling the false discovery rate, JRSS B 57 (1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST_ROWS, LEAST_SHARE = 100, 0.01
LEAST_SUM = 10.0
"""Errors that a slice must have in the confirming half: below it a normal p-value would be too sure."""

CHOSEN = 3.0
"""Standard errors above the rest from which on a slice of the first half is a candidate."""

MOST = 10
FALSE = 0.01
"""The share of false discoveries that is let through."""

WORSE = 1.1
"""A slice is worth a name from 1.1 times the error of all rows on."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A column as codes, and its predicates: name and the codes (a row of 0 and 1 each) that satisfy it."""

    name: str
    codes: NDArray[np.int64]
    predicates: tuple[str, ...]
    members: Array

    @property
    def size(self) -> int:
        return int(self.members.shape[1])


@dataclass(frozen=True, slots=True)
class Weak:
    """A slice with its error and that of all rows, in the confirming half; ``confirmed`` after Benjamini and Hochberg."""

    name: str
    rows: int
    error: float
    overall: float
    p_value: float
    confirmed: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    z: float
    parts: tuple[tuple[int, int], ...]


def weakest(features: Sequence[Feature], errors: Array, seed: int = 20130101) -> list[Weak]:
    """At most ten slices of one or two predicates with the largest errors, the surest first; rows are split in halves by chance."""
    n = len(errors)
    if n < 2 * LEAST_ROWS:
        return []
    first = np.random.default_rng(seed).permutation(n) < n // 2
    support = max(LEAST_ROWS, LEAST_SHARE * n) / 2
    found = _search(features, errors, first, support)
    chosen = _distinct(found, features, errors, first, support)
    return _confirm(chosen, features, errors, ~first, support)


def _scores(sums: Sequence[Array], whole: tuple[float, float, float], support: float) -> Array:
    """Standard errors by which the mean of each slice lies above that of the other rows; -inf where it is too small."""
    rows, total, square = sums
    n, s, q = whole
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, rest = total / rows, (s - total) / (n - rows)
        spread = np.maximum(square / rows - mean**2, 0) / rows + np.maximum((q - square) / (n - rows) - rest**2, 0) / (n - rows)
        found: Array = np.where((rows >= support) & (n - rows >= support) & (spread > 0), (mean - rest) / np.sqrt(spread), -np.inf)
    return found


def _search(features: Sequence[Feature], errors: Array, half: NDArray[np.bool_], support: float) -> list[_Candidate]:
    e = errors[half]
    codes = [f.codes[half] for f in features]
    whole = (float(len(e)), float(e.sum()), float((e**2).sum()))
    weights = (None, e, e**2)
    found: list[_Candidate] = []

    def keep(scores: Array, at: tuple[int, ...]) -> None:
        for place in np.argwhere(scores > CHOSEN).tolist():
            found.append(_Candidate(float(scores[tuple(place)]), tuple(zip(at, place, strict=True))))

    for i, feature in enumerate(features):
        sums = [feature.members @ np.bincount(codes[i], weights=w, minlength=feature.size) for w in weights]
        keep(_scores(sums, whole, support), (i,))
        for j in range(i + 1, len(features)):
            other = features[j]
            joint = codes[i] * other.size + codes[j]
            tables = [np.bincount(joint, weights=w, minlength=feature.size * other.size).reshape(feature.size, -1) for w in weights]
            sums = [feature.members @ t @ other.members.T for t in tables]
            keep(_scores(sums, whole, support), (i, j))
    return sorted(found, key=lambda c: (-c.z, len(c.parts)))


def _rows(candidate: _Candidate, features: Sequence[Feature], half: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = half.copy()
    for feature, predicate in candidate.parts:
        inside &= features[feature].members[predicate][features[feature].codes] > 0
    return inside


def _distinct(
    found: Sequence[_Candidate], features: Sequence[Feature], errors: Array, half: NDArray[np.bool_], support: float,
) -> list[_Candidate]:
    """The candidates that are not only the shadow of a surer one: worse than the rest without its rows, too."""
    chosen: list[_Candidate] = []
    left = half.copy()
    for candidate in found[:500]:
        inside = _rows(candidate, features, half)
        rest = inside & left
        if chosen:
            if rest.sum() < support:
                continue
            e, all_left = errors[rest], errors[left]
            whole = (float(len(all_left)), float(all_left.sum()), float((all_left**2).sum()))
            z = _scores([np.array([v]) for v in (float(len(e)), e.sum(), (e**2).sum())], whole, support)[0]
            if z <= CHOSEN:
                continue
        chosen.append(candidate)
        left &= ~inside
        if len(chosen) == MOST:
            break
    return chosen


def _confirm(
    chosen: Sequence[_Candidate], features: Sequence[Feature], errors: Array, half: NDArray[np.bool_], support: float,
) -> list[Weak]:
    e = errors[half]
    whole = (float(len(e)), float(e.sum()), float((e**2).sum()))
    overall = whole[1] / max(whole[0], 1.0)
    tried: list[tuple[float, str, int, float]] = []
    for candidate in chosen:
        own = errors[_rows(candidate, features, half)]
        n, total = float(len(own)), float(own.sum())
        z = _scores([np.array([v]) for v in (n, total, (own**2).sum())], whole, support)[0]
        sure = n > 0 and total >= LEAST_SUM * (1.0 if own.max() <= 1 else float(own.mean()))
        p = 0.5 * math.erfc(float(z) / math.sqrt(2)) if sure and math.isfinite(z) else 1.0
        name = " & ".join(features[f].predicates[at] for f, at in candidate.parts)
        tried.append((p, name, int(n), total / n if n else math.nan))
    order = sorted(range(len(tried)), key=lambda at: tried[at][0])
    last = max((rank for rank, at in enumerate(order, 1) if tried[at][0] <= FALSE * rank / len(tried)), default=0)
    passed = set(order[:last])
    return [
        Weak(tried[at][1], tried[at][2], tried[at][3], overall, tried[at][0], at in passed and tried[at][3] >= WORSE * overall) for at in order
    ]
