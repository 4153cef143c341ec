"""Distances between the reference and the current distribution of a column, one file each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from checks.core.errors import ConfigError
from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.registry import Registry
from checks.core.result import Statistic


class StatisticFunction(Protocol):
    """``(binning, reference, current, **options) -> Statistic``; knows nothing of thresholds."""

    def __call__(self, binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, /, **options: Any) -> Statistic: ...


class StatisticPlugin:
    """A statistic with what the laws may assume of it.

    Parameters
    ----------
    function : the statistic.
    applies : the kinds of column it can measure.
    symmetric : whether reference and current may be exchanged.
    upper : the largest value it can take, or None.
    neutral : its value on identical data.
    lower : the smallest value it can take, or None.
    """

    def __init__(
        self, function: Callable[..., Statistic], applies: tuple[str, ...], symmetric: bool, upper: float | None, neutral: float,
        lower: float | None,
    ) -> None:
        self.function = function
        self.applies = applies
        self.symmetric = symmetric
        self.upper = upper
        self.neutral = neutral
        self.lower = lower
        self.__doc__ = function.__doc__
        self.options = tuple(name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY)

    def __call__(self, binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, **options: Any) -> Statistic:
        if not reference.layout().sum() or not current.layout().sum():
            return Statistic.nothing()
        return self.function(binning, reference, current, **options)


STATISTICS: Registry[StatisticPlugin] = Registry("statistic", "checks.statistics", "driftd.statistics")

SHOWN = ("chi_square", "jensen_shannon", "kolmogorov_smirnov", "psi", "wasserstein")
"""What is measured of every column without being asked for."""


def statistic(
    kind: str, *, applies: tuple[str, ...] = ("numeric", "category"), symmetric: bool = False, upper: float | None = None,
    neutral: float = 0.0, lower: float | None = 0.0,
) -> Callable[[Callable[..., Statistic]], StatisticPlugin]:
    """Register the decorated function as the statistic ``kind``."""

    def wrap(function: Callable[..., Statistic]) -> StatisticPlugin:
        return STATISTICS.register(kind)(StatisticPlugin(function, applies, symmetric, upper, neutral, lower))

    return wrap


def measure(kind: str, reference: Any, current: Any, *, binning: ColumnBinning | None = None, **options: Any) -> Statistic:
    """The statistic ``kind`` between a reference and the current data.

    Parameters
    ----------
    kind : a name in `STATISTICS`.
    reference, current : two 1-D arrays, of numbers or of strings for categories (None or NaN where a value is missing), or two
        `ColumnProfile` under ``binning``.
    options : keywords of that statistic, such as ``bins`` or ``base``.

    Notes
    -----
    Arrays are read as two profiles with one bin per distinct pooled value, so the value is exact. From profiles it comes with
    an interval that contains the value of the rows themselves; statistics of shares are those of the frozen bins.

    Raises
    ------
    ConfigError for an unknown kind or option, or where the kind does not apply to such data.
    """
    plugin = STATISTICS[kind]
    bins = options.get("bins", 10)
    if not isinstance(bins, int) or bins < 2:
        raise ConfigError(f"{kind}: bins is {bins!r}; allowed is a whole number from 2 on")
    unknown = sorted(set(options) - set(plugin.options))
    if unknown:
        raise ConfigError(f"{kind} has no option {unknown[0]!r}; allowed are {', '.join(plugin.options) or 'none'}")
    if isinstance(reference, ColumnProfile) or isinstance(current, ColumnProfile):
        if binning is None or not (isinstance(reference, ColumnProfile) and isinstance(current, ColumnProfile)):
            raise ConfigError(f"{kind}: two profiles need the binning under which both were made")
        left, right = reference, current
    else:
        try:
            arrays = np.asarray(reference), np.asarray(current)
        except ValueError:
            raise ConfigError(f"{kind}: reference and current must be 1-D arrays, not lists of unequal lists") from None
        binning, left, right = _of_arrays(kind, *map(_plain, arrays))
    if binning.kind not in plugin.applies:
        raise ConfigError(f"{kind} does not apply to {binning.kind} data; it measures {' and '.join(plugin.applies)}")
    return plugin(binning, left, right, **options)


def _plain(values: Any) -> Any:
    """Objects that are all numbers or missing as numbers."""
    if values.dtype.kind != "O" or not any(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values.ravel().tolist()):
        return values
    if all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values.ravel().tolist()):
        return np.array([np.nan if v is None else float(v) for v in values.ravel().tolist()]).reshape(values.shape)
    return values


def _of_arrays(kind: str, left: Any, right: Any) -> tuple[ColumnBinning, ColumnProfile, ColumnProfile]:
    if left.ndim != 1 or right.ndim != 1:
        raise ConfigError(f"{kind}: reference and current must be 1-D arrays, not of shapes {left.shape} and {right.shape}")
    if left.dtype.kind in "iuf" and right.dtype.kind in "iuf":
        left, right = left.astype(np.float64), right.astype(np.float64)
        pooled = np.concatenate([left, right])
        edges = np.unique(pooled[np.isfinite(pooled)])
        finite = left[np.isfinite(left)]
        binning = ColumnBinning(
            "x", "numeric", edges=tuple(edges.tolist()), center=float(finite.mean()) if len(finite) else 0.0,
            spread=float(finite.std()) if len(finite) else 0.0,
        )
        return binning, _numbers(binning, left), _numbers(binning, right)
    if "f" in (left.dtype.kind, right.dtype.kind) or {"i", "u"} & {left.dtype.kind, right.dtype.kind}:
        raise ConfigError(f"{kind}: numbers cannot be compared with {right.dtype if left.dtype.kind in 'iuf' else left.dtype}")
    known = tuple(sorted({str(value) for value in left.tolist() if not _missing(value)}))
    binning = ColumnBinning("x", "category", categories=known)
    return binning, _categories(binning, left.tolist()), _categories(binning, right.tolist())


def _missing(value: Any) -> bool:
    return value is None or value != value


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
        if _missing(value):
            profile.nulls += 1
        elif str(value) in codes:
            profile.counts[codes[str(value)]] += 1
        else:
            profile.other += 1
    return profile
