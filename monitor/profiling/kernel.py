"""One pass over a column of numbers: histogram, per-bin sums, moments, extremes, NaN and infinities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from checks.core.profile import ColumnBinning, ColumnProfile


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _accumulate(values: Any, edges: Any, center: float, counts: Any, sums: Any, scalars: Any) -> None:
    bins = len(edges)
    for value in values:
        if np.isnan(value):
            scalars[0] += 1
            continue
        if np.isinf(value):
            scalars[1] += 1
            continue
        low, high = 0, bins
        while low < high:
            middle = (low + high) >> 1
            if edges[middle] <= value:
                low = middle + 1
            else:
                high = middle
        counts[low] += 1
        sums[low] += value
        if value < scalars[2]:
            scalars[2] = value
        if value > scalars[3]:
            scalars[3] = value
        scalars[4] += value
        shift = value - center
        scalars[5] += shift * shift


def profile_numbers(binning: ColumnBinning, values: np.ndarray[Any, np.dtype[np.float64]]) -> ColumnProfile:
    """The profile of float64 ``values`` (nulls taken out) under a numeric ``binning``; bins are lower-inclusive."""
    profile = ColumnProfile.empty(binning)
    scalars = np.array([0.0, 0.0, np.inf, -np.inf, 0.0, 0.0])
    edges = np.asarray(binning.edges, np.float64)
    _accumulate(np.ascontiguousarray(values), edges, binning.center, profile.counts, profile.sums, scalars)
    profile.nans, profile.other = int(scalars[0]), int(scalars[1])
    profile.minimum, profile.maximum = float(scalars[2]), float(scalars[3])
    profile.total, profile.square = float(scalars[4]), float(scalars[5])
    return profile
