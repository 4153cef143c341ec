"""Cross products of standardised columns: what correlation is computed from, and what merges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

CONSTANT = 1e-9
"""Variances below this share of the reference's are none."""


@dataclass(frozen=True, slots=True)
class CrossProducts:
    """Pairwise sums over the rows in which both columns hold a finite number.

    Values are standardised, ``(x - center) / spread`` of the binning.

    Parameters
    ----------
    pairs : (k, k) int64, rows with both columns.
    sums : (k, k), ``sums[i, j]`` is the sum of column i over the rows that also have column j.
    products : (k, k), sums of products, symmetric.
    sampled : whether the rows are a sample of the window's.
    """

    pairs: NDArray[np.int64]
    sums: Matrix
    products: Matrix
    sampled: bool = False

    @classmethod
    def empty(cls, size: int) -> CrossProducts:
        """The neutral element for ``size`` columns."""
        return cls(np.zeros((size, size), np.int64), np.zeros((size, size)), np.zeros((size, size)))

    def __add__(self, other: CrossProducts) -> CrossProducts:
        return CrossProducts(
            self.pairs + other.pairs, self.sums + other.sums, self.products + other.products, self.sampled or other.sampled
        )

    @property
    def complete(self) -> bool:
        """Whether no value is missing anywhere: all pairs have the same rows."""
        return bool((self.pairs == self.pairs[:1, :1]).all() and (self.sums == np.diag(self.sums)[:, None]).all())

    def covariance(self) -> Matrix:
        """Pairwise covariances in units of the reference spreads, shape (k, k); NaN where no row has both."""
        with np.errstate(divide="ignore", invalid="ignore"):
            means = self.sums / self.pairs
            found: Matrix = self.products / self.pairs - means * means.T
        return found

    def correlation(self) -> Matrix:
        """Pairwise Pearson correlations, shape (k, k), in [-1, 1]; NaN for a constant column."""
        covariance = self.covariance()
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.diag(covariance)
            # Below a billionth of the reference's variance it is the rounding of a constant.
            deviation = np.sqrt(np.where(own > CONSTANT, own, np.nan))
            found: Matrix = np.clip(covariance / np.outer(deviation, deviation), -1.0, 1.0)
        return found
