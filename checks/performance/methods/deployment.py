"""A new model version against the old one, hour by hour, before any label comes."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checks.core.interval import newcombe
from checks.core.outputs import SCORE_BINS
from checks.core.sketch import Sketch

Array = NDArray[np.float64]
SURE = 4.0
"""Standard errors of every interval: over 72 hours of looking, five kinds of finding are wrong less than once in 50 releases."""

TOGETHER = 0.05
"""Share of the rows that the old version must still serve, for both to be compared on the same traffic."""

GRAVE = 3.0
"""Outputs that differ by three times their bound are no other opinion any more: a fail."""


@dataclass(slots=True)
class Hour:
    """What one version did in one hour: rows, server errors, positive predictions, unusable scores; latencies, scores or predictions.

    ``scores`` counts score bins, shape (512,), or is empty; ``values`` sketches predictions of a regression.
    """

    rows: float = 0.0
    errors: float = 0.0
    statuses: float = 0.0
    positive: float = 0.0
    predicted: float = 0.0
    unusable: float = 0.0
    outputs: float = 0.0
    latencies: Sketch = field(default_factory=Sketch)
    scores: Array = field(default_factory=lambda: np.zeros(SCORE_BINS))
    chosen: Array = field(default_factory=lambda: np.zeros(SCORE_BINS))
    values: Sketch = field(default_factory=Sketch)

    def __add__(self, other: Hour) -> Hour:
        return Hour(**{name: getattr(self, name) + getattr(other, name) for name in Hour.__slots__})


_NUMBERS = ("rows", "errors", "statuses", "positive", "predicted", "unusable", "outputs")


def to_bytes(versions: Mapping[str, Hour]) -> bytes:
    """The hours of all versions, compressed."""
    body = {
        name: [
            [getattr(h, n) for n in _NUMBERS], h.latencies.cells.tolist(), h.latencies.counts.tolist(), h.scores.tolist(), h.chosen.tolist(),
            h.values.cells.tolist(), h.values.counts.tolist(),
        ]
        for name, h in versions.items()
    }
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 6)


def from_bytes(data: bytes) -> dict[str, Hour]:
    """What `to_bytes` wrote."""
    found = {}
    for name, (numbers, cells, counts, scores, chosen, value_cells, value_counts) in json.loads(zlib.decompress(data)).items():
        found[name] = Hour(
            **dict(zip(_NUMBERS, numbers, strict=True)), latencies=Sketch(np.array(cells, np.int64), np.array(counts, np.float64)),
            scores=np.array(scores, np.float64), chosen=np.array(chosen, np.float64),
            values=Sketch(np.array(value_cells, np.int64), np.array(value_counts, np.float64)),
        )
    return found


def total(hours: Sequence[Hour]) -> Hour:
    """All hours together."""
    whole = Hour()
    for hour in hours:
        whole = whole + hour
    return whole


@dataclass(frozen=True, slots=True)
class Bounds:
    """By how much a new version must be worse: shares, the ratio of the 95% latencies, the distance of distributions."""

    min_rows: int = 200
    errors: float = 0.01
    latency: float = 1.5
    selection: float = 0.1
    scores: float = 0.15
    quality: float = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in which the versions differ: fail where the new one is worse, warn where it is only other."""

    kind: str
    verdict: str
    new: float
    old: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Watched:
    """The verdict on a new version: pass, warn, fail, or insufficient; ``together``: on the same hours as the old one."""

    verdict: str
    findings: tuple[Finding, ...]
    rows: int
    old_rows: int
    together: bool
    sentence: str


def judge(
    new: Sequence[Hour], beside: Sequence[tuple[Hour, Hour]], days: Sequence[Hour], bounds: Bounds, chances: Array | None = None,
) -> Watched:
    """The new version's hours against the old one's.

    ``beside`` are the hours that both served, the new version's and the old one's. Where they hold less than half of the new version's
    rows, ``days`` are used, too: the old version's rows of the same hours of earlier days, one element a day. Then a difference must
    also exceed that of every one of those days; the graver answer counts. ``chances`` are the calibrated chances of a positive label by
    score bin, learned from the old version.
    """
    mine, shared, other = total(new), total([a for a, _ in beside]), total([b for _, b in beside])
    found = []
    if shared.rows >= bounds.min_rows and other.rows >= max(bounds.min_rows, TOGETHER * shared.rows):
        found.append(_judged(shared, other, [], bounds, chances, together=True))
    if not found or shared.rows < 0.5 * mine.rows:
        usable = [d for d in days if d.rows >= bounds.min_rows / 4]
        found.append(_judged(mine, total(usable), usable, bounds, chances, together=False))
    return max(reversed(found), key=lambda w: ("insufficient", "pass", "warn", "fail").index(w.verdict))


def _judged(mine: Hour, old: Hour, days: Sequence[Hour], bounds: Bounds, chances: Array | None, *, together: bool) -> Watched:
    rows, old_rows = round(mine.rows), round(old.rows)
    if mine.rows < bounds.min_rows or old.rows < bounds.min_rows:
        less = "new" if mine.rows < bounds.min_rows else "old"
        why = f"{rows if less == 'new' else old_rows} rows of the {less} version; {bounds.min_rows} are needed"
        return Watched("insufficient", (), rows, old_rows, together, why)
    found = [
        _share("errors", mine, old, days, ("errors", "statuses"), bounds.errors, "answers with a server error"),
        _share("unusable", mine, old, days, ("unusable", "outputs"), bounds.quality, "scores or predictions that are missing or no numbers"),
        _latency(mine, old, days, bounds.latency),
        _selection(mine, old, days, bounds.selection),
        _distribution(mine, old, days, bounds.scores),
        _quality(mine, old, days, bounds.quality, chances),
    ]
    findings = tuple(f for f in found if f is not None)
    verdict = "fail" if any(f.verdict == "fail" for f in findings) else "warn" if findings else "pass"
    sentence = "; ".join(f.sentence for f in findings) or "errors, latency, outputs and estimated quality are those of the old version"
    return Watched(verdict, findings, rows, old_rows, together, sentence)


def _share(
    kind: str, mine: Hour, old: Hour, days: Sequence[Hour], names: tuple[str, str], least: float, words: str,
) -> Finding | None:
    (x1, n1), (x2, n2) = ((getattr(h, names[0]), getattr(h, names[1])) for h in (mine, old))
    if not n1 or not n2:
        return None
    p1, p2 = x1 / n1, x2 / n2
    low, _ = newcombe(x1, n1, x2, n2, SURE)
    worst = max((getattr(d, names[0]) / getattr(d, names[1]) for d in days if getattr(d, names[1])), default=0.0)
    if p1 - p2 < least or low <= 0 or p1 <= worst:
        return None
    return Finding(kind, "fail", p1, p2, f"{p1:.1%} {words}, {p2:.1%} before")


def _latency(mine: Hour, old: Hour, days: Sequence[Hour], ratio: float) -> Finding | None:
    n1, n2 = mine.latencies.total, old.latencies.total
    if min(n1, n2) < 50:
        return None
    a, b = mine.latencies.at(0.95), old.latencies.at(0.95)
    half = SURE * math.sqrt(0.95 * 0.05)
    low = mine.latencies.at(max(0.95 - half / math.sqrt(n1), 0.0))
    high = old.latencies.at(min(0.95 + half / math.sqrt(n2), 1.0))
    worst = max((d.latencies.at(0.95) for d in days if d.latencies.total >= 50), default=0.0)
    if b <= 0 or a < ratio * b or low <= high or a <= worst:
        return None
    return Finding("latency", "fail", a, b, f"latency p95 {a:.4g} ms, {b:.4g} ms before")


def _selection(mine: Hour, old: Hour, days: Sequence[Hour], least: float) -> Finding | None:
    if not mine.predicted or not old.predicted:
        return None
    p1, p2 = mine.positive / mine.predicted, old.positive / old.predicted
    low, high = newcombe(mine.positive, mine.predicted, old.positive, old.predicted, SURE)
    usual = [d.positive / d.predicted for d in days if d.predicted]
    inside = bool(usual) and min(usual) <= p1 <= max(usual)
    if abs(p1 - p2) < least or low <= 0 <= high or inside:
        return None
    return Finding("selection", "fail" if abs(p1 - p2) >= GRAVE * least else "warn", p1, p2, f"{p1:.1%} of predictions are positive, {p2:.1%} before")


def _curve(hour: Hour) -> tuple[Array, float] | None:
    n = float(hour.scores.sum())
    return (np.cumsum(hour.scores) / n, n) if n >= 50 else None


def _distribution(mine: Hour, old: Hour, days: Sequence[Hour], least: float) -> Finding | None:
    if mine.values.total >= 50 and old.values.total >= 50:
        return _values(mine, old, days, least)
    a, b = _curve(mine), _curve(old)
    if a is None or b is None:
        return None
    distance = float(np.abs(a[0] - b[0]).max())
    critical = math.sqrt(-0.5 * math.log(3e-5)) * math.sqrt(1 / a[1] + 1 / b[1])
    curves = [c for c in map(_curve, days) if c is not None]
    usual = max((float(np.abs(c[0] - b[0]).max()) for c in curves), default=0.0)
    if distance < least or distance <= critical or distance <= usual:
        return None
    at = [float(np.searchsorted(c[0], 0.5) + 0.5) / SCORE_BINS for c in (a, b)]
    return Finding("scores", "fail" if distance >= GRAVE * least else "warn", at[0], at[1], f"scores moved by {distance:.2f} (Kolmogorov-Smirnov), median {at[0]:.2f}, {at[1]:.2f} before")


def _apart(one: Sketch, other: Sketch) -> float:
    """The Kolmogorov-Smirnov distance of two sketches."""
    cells = np.union1d(one.cells, other.cells)
    curves = []
    for sketch in (one, other):
        counts = np.zeros(len(cells))
        counts[np.searchsorted(cells, sketch.cells)] = sketch.counts
        curves.append(np.cumsum(counts) / sketch.total)
    return float(np.abs(curves[0] - curves[1]).max())


def _values(mine: Hour, old: Hour, days: Sequence[Hour], least: float) -> Finding | None:
    distance = _apart(mine.values, old.values)
    critical = math.sqrt(-0.5 * math.log(3e-5)) * math.sqrt(1 / mine.values.total + 1 / old.values.total)
    usual = max((_apart(d.values, old.values) for d in days if d.values.total >= 50), default=0.0)
    if distance < least or distance <= critical or distance <= usual:
        return None
    a, b = mine.values.at(0.5), old.values.at(0.5)
    return Finding("scores", "fail" if distance >= GRAVE * least else "warn", a, b, f"predictions moved by {distance:.2f} (Kolmogorov-Smirnov), median {a:.4g}, {b:.4g} before")


def _quality(mine: Hour, old: Hour, days: Sequence[Hour], least: float, chances: Array | None) -> Finding | None:
    if chances is None:
        return None
    found = [_right(hour, chances) for hour in (mine, old)]
    if found[0] is None or found[1] is None:
        return None
    (x1, n1), (x2, n2) = found[0], found[1]
    _, high = newcombe(x1, n1, x2, n2, SURE)
    usual = [r[0] / r[1] for r in (_right(d, chances) for d in days) if r is not None]
    if x2 / n2 - x1 / n1 < least or high >= 0 or (usual and x1 / n1 >= min(usual)):
        return None
    return Finding("quality", "fail", x1 / n1, x2 / n2, f"estimated accuracy {x1 / n1:.1%}, {x2 / n2:.1%} before (by the old version's calibration)")


def _right(hour: Hour, chances: Array) -> tuple[float, float] | None:
    n = float(hour.scores.sum())
    if n < 50:
        return None
    rest = hour.scores - hour.chosen
    return float(hour.chosen @ chances + rest @ (1 - chances)), n


def as_json(watched: Watched) -> dict[str, Any]:
    """The verdict as plain values."""
    return {
        "verdict": watched.verdict, "rows": watched.rows, "old_rows": watched.old_rows,
        "against": "the same hours" if watched.together else "the same hours of earlier days", "sentence": watched.sentence,
        "findings": [
            {"kind": f.kind, "verdict": f.verdict, "new": float(f"{f.new:.6g}"), "old": float(f"{f.old:.6g}"), "sentence": f.sentence}
            for f in watched.findings
        ],
    }
