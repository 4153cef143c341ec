"""What one scan learned of one column."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from checks.core.binning import ColumnBinning

Counts = NDArray[np.int64]
Sums = NDArray[np.float64]


@dataclass(slots=True)
class ColumnProfile:
    """Counts of one column in one window.

    ``counts`` has one entry per bin or category. For numbers ``sums`` holds the sum in each bin, ``square`` the sum of
    squares about the binning's ``center``; for text ``total`` is the summed length. ``other`` counts categories unseen
    in the reference, infinities of numbers, and empty texts. A `settled` profile is not changed any more.
    """

    counts: Counts
    sums: Sums
    nulls: int = 0
    nans: int = 0
    other: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    square: float = 0.0
    _filled: int | None = field(default=None, compare=False, repr=False)
    _layout: Counts | None = field(default=None, compare=False, repr=False)

    @classmethod
    def empty(cls, binning: ColumnBinning) -> ColumnProfile:
        numeric = binning.bins if binning.kind == "numeric" else 0
        return cls(np.zeros(binning.bins, np.int64), np.zeros(numeric, np.float64))

    def __add__(self, other: ColumnProfile) -> ColumnProfile:
        return ColumnProfile(
            self.counts + other.counts, self.sums + other.sums, self.nulls + other.nulls, self.nans + other.nans,
            self.other + other.other, min(self.minimum, other.minimum), max(self.maximum, other.maximum),
            self.total + other.total, self.square + other.square,
        )

    def settled(self) -> ColumnProfile:
        """Itself, with the sums that a baseline of many windows is asked for again and again computed once."""
        self._filled, self._layout = self.filled, self.layout()
        return self

    @property
    def missing(self) -> int:
        """Nulls and NaNs."""
        return self.nulls + self.nans

    @property
    def filled(self) -> int:
        """Rows that fell into a bin or category."""
        return int(self.counts.sum()) if self._filled is None else self._filled

    @property
    def rows(self) -> int:
        """All rows that were counted; of a text column only those without a value are."""
        return self.filled + self.other + self.nulls + self.nans

    def layout(self) -> Counts:
        """``[bins.., other, missing]``, the layout that the chart and the statistics read."""
        if self._layout is not None:
            return self._layout
        return np.concatenate([self.counts, [self.other, self.missing]]).astype(np.int64)

    def mean(self) -> float | None:
        """The mean of the finite values, or None without any."""
        filled = self.filled
        return self.total / filled if filled else None

    def deviation(self, center: float) -> float | None:
        """The standard deviation of the finite values, or None without any."""
        filled = self.filled
        if not filled:
            return None
        shift = self.total / filled - center
        return math.sqrt(max(self.square / filled - shift * shift, 0.0))
