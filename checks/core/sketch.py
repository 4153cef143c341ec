"""Quantiles from counts on a logarithmic grid: they merge, and are within 1% of the exact ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from checks.core.interval import Z95
from checks.core.result import Statistic

GAMMA = 1.02
"""Ratio of the ends of a cell: its middle is within 1% of every value in it."""

LEAST = 1e-9
"""Absolute values below this are zero."""

_LOG = math.log(GAMMA)
_SHIFT = 1 - math.ceil(math.log(LEAST) / _LOG)


def cells_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The cell of each finite value: ascending with it, 0 for zero."""
    size = np.abs(values)
    with np.errstate(divide="ignore"):
        found = np.where(size < LEAST, 0, np.ceil(np.log(np.maximum(size, LEAST)) / _LOG) + _SHIFT)
    cells: NDArray[np.int64] = (np.sign(values) * found).astype(np.int64)
    return cells


@dataclass(frozen=True, slots=True)
class Sketch:
    """Sums of weights by cell of the grid, cells ascending.

    Notes
    -----
    C. Masson, J. E. Rim, H. K. Lee, DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees,
    PVLDB 12 (2019).
    """

    cells: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Sketch:
        """The sketch of finite values."""
        cells, place = np.unique(cells_of(values), return_inverse=True)
        return cls(cells, np.bincount(place, weights=weights, minlength=len(cells)).astype(np.float64))

    def __add__(self, other: Sketch) -> Sketch:
        if not len(other.cells):
            return self
        if not len(self.cells):
            return other
        cells, place = np.unique(np.concatenate([self.cells, other.cells]), return_inverse=True)
        weights = np.concatenate([self.counts, other.counts])
        return Sketch(cells, np.bincount(place, weights=weights, minlength=len(cells)).astype(np.float64))

    @property
    def total(self) -> float:
        return float(self.counts.sum())

    def at(self, share: float) -> float:
        """The value below which ``share`` of the weight lies; NaN without any."""
        if not len(self.cells):
            return math.nan
        passed = np.cumsum(self.counts)
        cell = int(self.cells[min(int(np.searchsorted(passed, share * passed[-1] - 1e-9)), len(self.cells) - 1)])
        if cell == 0:
            return 0.0
        high = math.exp((abs(cell) - _SHIFT) * _LOG)
        return math.copysign(2 * high / (1 + GAMMA), cell)

    def quantile(self, share: float, scale: float = 1.0, unit: str = "") -> Statistic:
        """A quantile with its distribution-free 95% interval, where it has 4 rows beyond it; ``scale`` turns weights into rows."""
        rows = self.total * scale
        if rows * min(share, 1 - share) < 4:  # beyond the outermost values nothing is known of so rare ones
            return Statistic.nothing(unit)
        half = Z95 * math.sqrt(share * (1 - share) / rows)
        return Statistic(self.at(share), self.at(max(share - half, 0.0)), self.at(min(share + half, 1.0)), round(rows), unit)


__all__ = ["GAMMA", "Sketch", "cells_of"]
