"""Distances between the reference and the current distribution of a column, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.registry import Registry
from checks.core.result import Statistic


class StatisticFunction(Protocol):
    """``(binning, reference, current) -> Statistic``; knows nothing of thresholds."""

    def __call__(self, binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic: ...


class StatisticPlugin:
    """A statistic with what the laws may assume of it.

    Parameters
    ----------
    function : the statistic.
    applies : the kinds of column it can measure.
    symmetric : whether reference and current may be exchanged.
    upper : the largest value it can take, or None.
    """

    def __init__(
        self, function: StatisticFunction, applies: tuple[str, ...], symmetric: bool, upper: float | None,
    ) -> None:
        self.function = function
        self.applies = applies
        self.symmetric = symmetric
        self.upper = upper

    def __call__(self, binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
        if not reference.layout().sum() or not current.layout().sum():
            return Statistic.nothing()
        return self.function(binning, reference, current)


STATISTICS: Registry[StatisticPlugin] = Registry("statistic", "checks.statistics", "driftd.statistics")


def statistic(
    kind: str, *, applies: tuple[str, ...] = ("numeric", "category"), symmetric: bool = False, upper: float | None = None,
) -> Callable[[StatisticFunction], StatisticPlugin]:
    """Register the decorated function as the statistic ``kind``."""

    def wrap(function: StatisticFunction) -> StatisticPlugin:
        return STATISTICS.register(kind)(StatisticPlugin(function, applies, symmetric, upper))

    return wrap


def measure(kind: str, reference: Any, current: Any) -> Statistic:
    """The statistic ``kind`` between two 1-D arrays of numbers, or of strings for categories.

    The pair is read as two profiles with one bin per distinct pooled value, so the value is exact.
    """
    left, right = np.asarray(reference), np.asarray(current)
    if left.dtype.kind in "biuf" and right.dtype.kind in "biuf":
        left, right = left.astype(np.float64), right.astype(np.float64)
        pooled = np.concatenate([left, right])
        edges = np.unique(pooled[np.isfinite(pooled)])
        finite = left[np.isfinite(left)]
        binning = ColumnBinning(
            "x", "numeric", edges=tuple(edges.tolist()), center=float(finite.mean()) if len(finite) else 0.0,
            spread=float(finite.std()) if len(finite) else 0.0,
        )
        return STATISTICS[kind](binning, _numbers(binning, left), _numbers(binning, right))
    known = tuple(sorted({str(value) for value in left.tolist() if value is not None}))
    binning = ColumnBinning("x", "category", categories=known)
    return STATISTICS[kind](binning, _categories(binning, left.tolist()), _categories(binning, right.tolist()))


def _numbers(binning: ColumnBinning, values: np.ndarray[Any, Any]) -> ColumnProfile:
    profile = ColumnProfile.empty(binning)
    finite = values[np.isfinite(values)]
    codes = np.searchsorted(np.asarray(binning.edges), finite, side="right")
    profile.counts += np.bincount(codes, minlength=binning.bins)
    profile.sums += np.bincount(codes, weights=finite, minlength=binning.bins)
    profile.nans = int(np.isnan(values).sum())
    profile.other = int(np.isinf(values).sum())
    if len(finite):
        profile.minimum, profile.maximum = float(finite.min()), float(finite.max())
        profile.total = float(finite.sum())
        profile.square = float(((finite - binning.center) ** 2).sum())
    return profile


def _categories(binning: ColumnBinning, values: list[Any]) -> ColumnProfile:
    profile = ColumnProfile.empty(binning)
    codes = {category: code for code, category in enumerate(binning.categories)}
    for value in values:
        if value is None:
            profile.nulls += 1
        elif str(value) in codes:
            profile.counts[codes[str(value)]] += 1
        else:
            profile.other += 1
    return profile
