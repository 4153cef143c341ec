"""Compiled passes over one column: numbers into bins with their sums and moments, codes into counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from checks.core.binning import ColumnBinning
from checks.core.column import ColumnProfile
from checks.core.outputs import BAD_SCORE, NO_SCORE, SCORE_BINS

GRID = 4096
"""Cells of the look-up table over the range of the edges: the first guess of a value's bin."""

CROWDED = 8
"""Edges in one cell from which the bin is searched by halving instead of one by one."""

NANS, INFINITIES, MINIMUM, MAXIMUM, SQUARE, ABSENT = range(6)


def compiled(function: Any) -> Any:
    """Compiled without the interpreter's lock, and kept on disk for the next process where there is a place to write to."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no directory for its cache: a read-only image without a home
        return njit(nogil=True)(function)


@compiled
def _cells(edges: Any, low: float, inverse: float, grid: int) -> Any:
    """The grid cell of each edge, by the same arithmetic as in the pass over the values."""
    found = np.empty(len(edges), np.int64)
    top = float(grid - 1)
    for i in range(len(edges)):
        found[i] = np.int64(max(0.0, min((edges[i] - low) * inverse, top)))
    return found


@compiled
def _accumulate(
    values: Any, valid: Any, offset: int, edges: Any, table: Any, low: float, inverse: float, crowded: bool, center: float,
    counts: Any, sums: Any, scalars: Any, scale: float, standard: Any,
) -> Any:
    """Adds ``values`` to the accumulators; answers how many were null, NaN or infinite.

    A value's grid cell grows with it, so every edge of a lower cell lies below it: ``table`` counts those, and the edges
    of its own cell are compared one by one. ``edges`` ends in infinity.
    """
    top = float(len(table) - 2)
    minimum, maximum, square = scalars[MINIMUM], scalars[MAXIMUM], 0.0
    nulls, absent = 0, 0
    checked, kept = len(valid) > 0, len(standard) > 0
    for i in range(len(values)):
        value = values[i]
        if checked:
            place = offset + i
            if not (valid[place >> 3] >> (place & 7)) & 1:
                nulls += 1
                if kept:
                    standard[i] = 0.0
                continue
        shift = value - center
        if not (np.abs(value) <= 1.7976931348623157e308):
            if np.isnan(value):
                scalars[NANS] += 1
            else:
                scalars[INFINITIES] += 1
            absent += 1
            if kept:
                standard[i] = 0.0
            continue
        cell = np.int32(max(0.0, min((value - low) * inverse, top)))
        found = np.int64(table[cell])
        if crowded:
            high = np.int64(table[cell + 1])
            while found < high:
                middle = (found + high) >> 1
                if edges[middle] <= value:
                    found = middle + 1
                else:
                    high = middle
        while edges[found] <= value:
            found += 1
        counts[found] += 1
        sums[found] += value
        square += shift * shift
        minimum = min(minimum, value)
        maximum = max(maximum, value)
        if kept:
            standard[i] = shift * scale
    scalars[MINIMUM], scalars[MAXIMUM] = minimum, maximum
    scalars[SQUARE] += square
    scalars[ABSENT] += nulls
    return nulls + absent


@compiled
def present(values: Any, valid: Any, offset: int, found: Any) -> None:
    """1 in ``found`` where a value is a finite number, else 0."""
    for i in range(len(values)):
        place = offset + i
        inside = len(valid) == 0 or (valid[place >> 3] >> (place & 7)) & 1
        found[i] = 1.0 if inside and np.abs(values[i]) <= 1.7976931348623157e308 else 0.0


@compiled
def translate(indices: Any, valid: Any, offset: int, table: Any, null: int, codes: Any) -> None:
    """``codes[i] = table[indices[i]]``, ``null`` where invalid."""
    checked = len(valid) > 0
    for i in range(len(indices)):
        place = offset + i
        if checked and not (valid[place >> 3] >> (place & 7)) & 1:
            codes[i] = null
        else:
            codes[i] = table[indices[i]]


@compiled
def tally(indices: Any, valid: Any, offset: int, counts: Any) -> None:
    """Counts of dictionary indices; the last count is of the nulls."""
    checked, null = len(valid) > 0, len(counts) - 1
    for i in range(len(indices)):
        place = offset + i
        if checked and not (valid[place >> 3] >> (place & 7)) & 1:
            counts[null] += 1
        else:
            counts[indices[i]] += 1


@compiled
def score_bins(values: Any, valid: Any, offset: int, width: int, cells: Any) -> None:
    """Adds ``width`` times the score bin of each value to ``cells``."""
    checked = len(valid) > 0
    for i in range(len(values)):
        place = offset + i
        if checked and not (valid[place >> 3] >> (place & 7)) & 1:
            cells[i] += width * NO_SCORE
            continue
        value = values[i]
        if value >= 0.0 and value <= 1.0:
            cells[i] += width * min(np.int64(value * SCORE_BINS), np.int64(SCORE_BINS - 1))
        else:
            cells[i] += width * BAD_SCORE


@compiled
def tally_slices(slices: Any, cells: Any, width: int, counts: Any) -> None:
    """Adds one at ``slices[i] * width + cells[i]``."""
    for i in range(len(cells)):
        counts[slices[i] * width + cells[i]] += 1


class NumberAccumulator:
    """The running profile of one numeric column."""

    def __init__(self, binning: ColumnBinning) -> None:
        edges = np.asarray(binning.edges, np.float64)
        self.binning = binning
        self._edges = np.append(edges, np.inf)
        self._low = float(edges[0]) if len(edges) else 0.0
        span = float(edges[-1]) - self._low if len(edges) else 0.0
        self._inverse = GRID / span if span > 0 and np.isfinite(GRID / span) and np.isfinite(span) else 0.0
        cells = _cells(edges, self._low, self._inverse, GRID)
        self._table = np.searchsorted(cells, np.arange(GRID + 1), side="left").astype(np.int32)
        self._table[GRID] = len(edges)
        self._crowded = bool(len(edges)) and bool((np.diff(self._table) > CROWDED).any())
        self._counts = np.zeros(len(edges) + 1, np.int64)
        self._sums = np.zeros(len(edges) + 1)
        self._scalars = np.array([0.0, 0.0, np.inf, -np.inf, 0.0, 0.0])

    def add(
        self, values: NDArray[np.float64], valid: NDArray[np.uint8], offset: int, standard: NDArray[np.float64],
    ) -> int:
        """Adds values; bit ``offset + i`` of ``valid`` (empty: all valid) says whether value i is no null.

        Into ``standard``, unless it is empty, goes ``(x - center) / spread``, 0 where there is no finite value. Answers
        how many those are.
        """
        binning = self.binning
        missing: int = _accumulate(
            values, valid, offset, self._edges, self._table, self._low, self._inverse, self._crowded, binning.center,
            self._counts, self._sums, self._scalars, binning.scale, standard,
        )
        return missing

    def profile(self) -> ColumnProfile:
        """What was added."""
        nans, infinities, minimum, maximum, square, nulls = self._scalars.tolist()
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(self._sums.sum())
        return ColumnProfile(
            self._counts.copy(), self._sums.copy(), int(nulls), int(nans), int(infinities), minimum, maximum, total, square
        )
