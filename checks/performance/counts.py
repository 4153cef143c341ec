"""Sufficient counts of labelled rows: they merge, and every metric is computed from them."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from checks.core.outputs import SCORE_BINS

CLIP = 1e-15


def _grid() -> NDArray[np.int64]:
    return np.zeros(SCORE_BINS, np.int64)


@dataclass(slots=True)
class QualityCounts:
    """Counts of the labelled rows of one slice of one window.

    ``tp, fp, fn, tn`` are of binary tasks, ``correct`` of every classification; ``positive`` and ``negative`` count the
    two labels per score bin; ``*_error`` sums are of regression, ``loss`` and ``loss_square`` of the log loss.
    ``bad_scores`` counts scores that are null, NaN or outside [0, 1]; they enter no score metric.
    """

    rows: int = 0
    correct: int = 0
    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0
    scored: int = 0
    bad_scores: int = 0
    score_sum: float = 0.0
    residual_square: float = 0.0
    label_sum: float = 0.0
    loss: float = 0.0
    loss_square: float = 0.0
    absolute_error: float = 0.0
    square_error: float = 0.0
    fourth_error: float = 0.0
    positive: NDArray[np.int64] = field(default_factory=_grid)
    negative: NDArray[np.int64] = field(default_factory=_grid)

    def __add__(self, other: QualityCounts) -> QualityCounts:
        total = QualityCounts()
        for name in _FIELDS:
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total


_FIELDS = [item.name for item in fields(QualityCounts)]
_SCALARS = [name for name in _FIELDS if name not in ("positive", "negative")]


def to_bytes(slices: dict[str, QualityCounts]) -> bytes:
    """The counts of all slices of a window, compressed behind a version byte."""
    rows = [
        [name, *(getattr(c, key) for key in _SCALARS), c.positive.tolist(), c.negative.tolist()] for name, c in slices.items()
    ]
    return b"\x01" + zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 6)


def from_bytes(data: bytes) -> dict[str, QualityCounts]:
    """What `to_bytes` wrote."""
    slices = {}
    for name, *values, positive, negative in json.loads(zlib.decompress(data[1:])):
        known = dict(zip(_SCALARS, values, strict=True))
        slices[name] = QualityCounts(**known, positive=np.array(positive, np.int64), negative=np.array(negative, np.int64))
    return slices
