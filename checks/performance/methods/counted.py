"""Everything that was counted of one window for quality: it merges, and is what the store keeps."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from checks.core.outputs import ALL, SCORE_BINS
from checks.core.result import Statistic
from checks.core.sketch import Sketch
from checks.performance._interval import mean, proportion
from checks.performance.counts import GRADES, QualityCounts, from_json, grade, to_json


@dataclass(slots=True)
class Moments:
    """Sums of a custom metric's values: weights, values, squares, cubes, squared weights, rows, rows without a finite value."""

    weight: float = 0.0
    total: float = 0.0
    square: float = 0.0
    cube: float = 0.0
    weight_square: float = 0.0
    rows: float = 0.0
    missing: float = 0.0
    sketch: Sketch = field(default_factory=Sketch)

    def __add__(self, other: Moments) -> Moments:
        sums = {name: getattr(self, name) + getattr(other, name) for name in _MOMENTS}
        return Moments(**sums, sketch=self.sketch + other.sketch)

    def statistic(self, aggregate: str) -> Statistic:
        """The ``mean``, ``sum``, ``share`` (of values that are 1), ``p50``, ``p95`` or ``p99``, with its 95% interval."""
        scale = self.weight / self.weight_square if self.weight_square else 1.0
        if aggregate == "share":
            if abs(self.total - self.square) > 1e-9 * max(abs(self.total), 1.0):
                return Statistic.nothing("not 0 or 1")
            return proportion(self.total, self.weight, scale)
        if aggregate[0] == "p" and aggregate[1:].isdigit():
            return self.sketch.quantile(int(aggregate[1:]) / 100, scale)
        found = mean(self.total, self.square, self.weight, "", scale, self.cube)
        if aggregate == "sum" and found.value is not None and found.low is not None and found.high is not None:
            return Statistic(self.total, found.low * self.weight, found.high * self.weight, found.n)
        return found


_MOMENTS = ("weight", "total", "square", "cube", "weight_square", "rows", "missing")


def of_sums(sums: Sequence[float], sketch: Sketch) -> Moments:
    """The moments of sums in the order of the fields."""
    return Moments(**dict(zip(_MOMENTS, sums, strict=True)), sketch=sketch)


@dataclass(slots=True)
class Pairs:
    """The rows that two versions both predicted: rows, both right, only the first, only the second; sums of their difference.

    The difference is of absolute errors (regression), the first's less the second's, with its squares.
    """

    rows: float = 0.0
    both: float = 0.0
    first: float = 0.0
    second: float = 0.0
    gap: float = 0.0
    gap_square: float = 0.0

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(*(getattr(self, name) + getattr(other, name) for name in _PAIRS))


_PAIRS = ("rows", "both", "first", "second", "gap", "gap_square")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The rows of a slice that have no label yet: how many, their weights and squared weights, the weight of those predicted positive."""

    rows: float = 0.0
    weight: float = 0.0
    weight_square: float = 0.0
    positive: float = 0.0


@dataclass(slots=True)
class Counted:
    """Counts by slice and by model version; the rows that wait for a label, and custom metrics, by slice.

    ``cuts`` names the cut that each slice is of; ``pairs`` holds, by (version, version), rows that both predicted; ``rows`` those of
    the window; ``notes`` what was odd; ``failed`` and ``broken`` why cuts and custom metrics could not be made.
    """

    slices: dict[str, QualityCounts] = field(default_factory=dict)
    versions: dict[str, QualityCounts] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    custom: dict[str, dict[str, Moments]] = field(default_factory=dict)
    cuts: dict[str, str] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Pairs] = field(default_factory=dict)
    rows: int = 0
    notes: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> QualityCounts:
        return self.slices.get(ALL) or QualityCounts()


def to_bytes(counted: Counted) -> bytes:
    """The counts of a window, compressed behind a version byte."""
    body = {
        "slices": {name: to_json(c) for name, c in counted.slices.items()},
        "versions": {name: to_json(c) for name, c in counted.versions.items()},
        "waiting": {name: [w.rows, w.weight, w.weight_square, w.positive] for name, w in counted.waiting.items()},
        "custom": {name: {kind: _plain(m) for kind, m in kinds.items()} for name, kinds in counted.custom.items()},
        "cuts": counted.cuts, "rows": counted.rows, "notes": list(counted.notes), "failed": counted.failed, "broken": counted.broken,
        "pairs": [[a, b, *(getattr(p, name) for name in _PAIRS)] for (a, b), p in counted.pairs.items()],
    }
    return b"\x02" + zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 6)


def from_bytes(data: bytes) -> Counted:
    """What `to_bytes` wrote, now or in its first version, which knew neither weights, versions nor sums of scores by bin."""
    if not data:
        return Counted()
    body: Any = json.loads(zlib.decompress(data[1:]))
    if data[:1] == b"\x01":
        return Counted(slices=_first(body), cuts={row[0]: " & ".join(p.split("=", 1)[0] for p in row[0].split(" & ")) for row in body})
    return Counted(
        {name: from_json(c) for name, c in body["slices"].items()}, {name: from_json(c) for name, c in body["versions"].items()},
        {name: Waiting(*values) for name, values in body["waiting"].items()},
        {name: {kind: _moments(m) for kind, m in kinds.items()} for name, kinds in body["custom"].items()},
        body["cuts"], {(a, b): Pairs(*values) for a, b, *values in body["pairs"]}, body["rows"], tuple(body["notes"]),
        body["failed"], body["broken"],
    )


def _plain(moments: Moments) -> list[Any]:
    return [*(getattr(moments, name) for name in _MOMENTS), moments.sketch.cells.tolist(), moments.sketch.counts.tolist()]


def _moments(values: list[Any]) -> Moments:
    sketch = Sketch(np.array(values[-2], np.int64), np.array(values[-1], np.float64))
    return of_sums(values[:-2], sketch)


_FIRST = (
    "rows", "correct", "tp", "fp", "fn", "tn", "scored", "bad_scores", "score_sum", "residual_square", "label_sum", "loss",
    "loss_square", "absolute_error", "square_error", "fourth_error",
)


def _first(body: list[list[Any]]) -> dict[str, QualityCounts]:
    slices = {}
    middles = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS
    for name, *values, positive, negative in body:
        known: Mapping[str, Any] = dict(zip(_FIRST, values, strict=True))
        counts = QualityCounts(**known)
        counts.weight = counts.weight_square = float(counts.rows)
        place = grade(middles)
        for side, values in (("positive", positive), ("negative", negative), ("scores", (np.array(positive) + np.array(negative)) * middles)):
            setattr(counts, side, np.bincount(place, weights=np.array(values, np.float64), minlength=GRADES))
        slices[name] = counts
    return slices
