"""Sufficient counts of labelled rows: they merge, and every metric is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checks.core.sketch import Sketch

CLIP = 1e-15
Array = NDArray[np.float64]

GRADES = 1024
"""Bins of the score: half of their density is even on [0, 1], half even in its logarithm, so that rare events are told apart."""

STEEP = 16.0
"""The logit at which the finest bins end."""

SUMS = {
    "binary": (
        "weight", "weight_square", "tn", "fn", "fp", "tp", "scored", "bad_scores", "score_sum", "label_sum", "residual_square",
        "residual_fourth", "loss", "loss_square", "loss_cube",
    ),
    "multiclass": ("weight", "weight_square", "correct"),
    "regression": (
        "weight", "weight_square", "error", "absolute_error", "absolute_cube", "square_error", "fourth_error", "target", "target_square",
        "target_cube", "target_fourth", "error_target", "error_target_square", "percentage", "percentage_square", "zero_targets",
    ),
}
"""The sums that rows of each task are counted into, in the order in which `monitor.profiling` adds them."""


def _grid() -> Array:
    return np.zeros(GRADES)


def _square() -> Array:
    return np.zeros((0, 0))


@dataclass(slots=True)
class QualityCounts:
    """Counts of the labelled rows of one slice of one window.

    All but ``rows`` are sums of weights, 1 per row where the rows have none. ``tp, fp, fn, tn`` are of binary tasks,
    ``correct`` of every classification; ``confusion`` counts (label, prediction) of a multiclass task in the order of
    ``classes``. ``positive`` and ``negative`` count the two labels per score bin, ``scores`` sums the scores of each. ``loss*``
    are powers of the log loss, ``residual_*`` of label less score; ``error*``, ``target*`` and ``percentage*`` are of
    regression, ``error_target`` and ``error_target_square`` sums of squared error times (squared) target. ``bad_scores`` are
    rows whose score is null, NaN or outside [0, 1]; they enter no score metric. ``zero_targets`` have no percentage error.
    ``errors`` sketches prediction less label; ``by_bin`` holds rows, absolute and squared errors per bin of the prediction.
    """

    rows: int = 0
    weight: float = 0.0
    weight_square: float = 0.0
    correct: float = 0.0
    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0
    tn: float = 0.0
    scored: float = 0.0
    bad_scores: float = 0.0
    score_sum: float = 0.0
    label_sum: float = 0.0
    residual_square: float = 0.0
    residual_fourth: float = 0.0
    loss: float = 0.0
    loss_square: float = 0.0
    loss_cube: float = 0.0
    error: float = 0.0
    absolute_error: float = 0.0
    absolute_cube: float = 0.0
    square_error: float = 0.0
    fourth_error: float = 0.0
    target: float = 0.0
    target_square: float = 0.0
    target_cube: float = 0.0
    target_fourth: float = 0.0
    error_target: float = 0.0
    error_target_square: float = 0.0
    percentage: float = 0.0
    percentage_square: float = 0.0
    zero_targets: float = 0.0
    positive: Array = field(default_factory=_grid)
    negative: Array = field(default_factory=_grid)
    scores: Array = field(default_factory=_grid)
    errors: Sketch = field(default_factory=Sketch)
    classes: tuple[str, ...] = ()
    confusion: Array = field(default_factory=_square)
    by_bin: Array = field(default_factory=_square)

    def __add__(self, other: QualityCounts) -> QualityCounts:
        total = QualityCounts()
        for name in (*SCALARS, *_GRIDS, "errors"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        total.by_bin = self.by_bin + other.by_bin if self.by_bin.shape == other.by_bin.shape else (
            self.by_bin if not other.rows else other.by_bin if not self.rows else _square()
        )
        total.classes = tuple(sorted({*self.classes, *other.classes}))
        total.confusion = self.over(total.classes) + other.over(total.classes)
        return total

    def over(self, classes: tuple[str, ...]) -> Array:
        """The confusion matrix over ``classes``, which hold all of its own."""
        found = np.zeros((len(classes), len(classes)))
        at = np.array([classes.index(name) for name in self.classes], np.int64)
        if len(at):
            found[np.ix_(at, at)] = self.confusion
        return found

    @property
    def scale(self) -> float:
        """What turns sums of weights into numbers of rows that are worth as much: 1 without weights (Kish's design effect)."""
        return self.weight / self.weight_square if self.weight_square else 1.0

    def one_against_rest(self, name: str) -> QualityCounts:
        """The counts of one class of a multiclass task, as of a binary one."""
        at = self.classes.index(name)
        tp = float(self.confusion[at, at])
        fn, fp = float(self.confusion[at].sum()) - tp, float(self.confusion[:, at].sum()) - tp
        tn = float(self.confusion.sum()) - tp - fn - fp
        return QualityCounts(
            rows=self.rows, weight=self.weight, weight_square=self.weight_square, correct=tp + tn, tp=tp, fp=fp, fn=fn, tn=tn
        )


_GRIDS = ("positive", "negative", "scores")
SCALARS = [item.name for item in fields(QualityCounts) if item.name not in (*_GRIDS, "errors", "classes", "confusion", "by_bin")]


def grade(scores: Array) -> NDArray[np.int64]:
    """The bin of each score in [0, 1]: ascending with it."""
    inner = np.clip(scores, 1e-15, 1 - 1e-15)
    logit = np.clip(np.log(inner / (1 - inner)), -STEEP, STEEP)
    at = (0.5 * scores + 0.25 * (logit / STEEP + 1)) * GRADES
    found: NDArray[np.int64] = np.minimum(at.astype(np.int64), GRADES - 1)
    return found


def _sparse(values: Array) -> list[list[float]]:
    flat = values.ravel()
    at = np.flatnonzero(flat)
    return [at.tolist(), flat[at].tolist()]


def _dense(pair: list[list[float]], shape: tuple[int, ...]) -> Array:
    found = np.zeros(shape)
    found.ravel()[np.array(pair[0], np.int64)] = pair[1]
    return found


def to_json(counts: QualityCounts) -> dict[str, Any]:
    """The counts as plain values, without what is zero."""
    body: dict[str, Any] = {name: getattr(counts, name) for name in SCALARS if getattr(counts, name)}
    body |= {name: _sparse(getattr(counts, name)) for name in _GRIDS if getattr(counts, name).any()}
    if len(counts.errors.cells):
        body["errors"] = [counts.errors.cells.tolist(), counts.errors.counts.tolist()]
    if counts.classes:
        body |= {"classes": list(counts.classes), "confusion": _sparse(counts.confusion)}
    if counts.by_bin.size:
        body |= {"bins": list(counts.by_bin.shape), "by_bin": _sparse(counts.by_bin)}
    return body


def from_json(body: Mapping[str, Any]) -> QualityCounts:
    """What `to_json` wrote."""
    counts = QualityCounts(**{name: body[name] for name in SCALARS if name in body})
    for name in _GRIDS:
        if name in body:
            setattr(counts, name, _dense(body[name], (GRADES,)))
    if "errors" in body:
        counts.errors = Sketch(np.array(body["errors"][0], np.int64), np.array(body["errors"][1], np.float64))
    if "classes" in body:
        counts.classes = tuple(body["classes"])
        counts.confusion = _dense(body["confusion"], (len(counts.classes), len(counts.classes)))
    if "by_bin" in body:
        counts.by_bin = _dense(body["by_bin"], tuple(body["bins"]))
    return counts
