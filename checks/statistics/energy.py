"""The energy distance."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._intervals import WithinBins, within_bins

Floats = NDArray[np.float64]


@statistic("energy", applies=("numeric",), symmetric=False)
def energy(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """``sqrt(2 * integral of (F - G)^2)`` of the column divided by the standard deviation of the reference.

    Notes
    -----
    Range [0, inf), no unit; the standard deviation is at least 1e-3. Each bin's mass is taken at its own mean; where inside its
    bin it can lie is folded into ``[low, high]``.

    References
    ----------
    G. J. Szekely, M. L. Rizzo, Energy statistics: a class of statistics based on distances, Journal of Statistical Planning and
    Inference 143 (2013).
    """
    if not reference.filled or not current.filled:
        return Statistic.nothing()
    a, b = within_bins(binning, reference), within_bins(binning, current)
    p, q = reference.counts / reference.filled, current.counts / current.filled
    scale = max(reference.deviation(binning.center) or 0.0, 1e-3)
    points = np.concatenate([a.mean[p > 0], b.mean[q > 0]])
    mass = np.concatenate([p[p > 0], -q[q > 0]])
    order = np.argsort(points, kind="stable")
    gap = np.cumsum(mass[order])[:-1]
    value = float((gap**2 * np.diff(points[order])).sum())
    used = (p + q) > 0
    start = np.where(p > 0, np.where(q > 0, np.minimum(_begin(a), _begin(b)), _begin(a)), _begin(b))[used]
    end = np.where(p > 0, np.where(q > 0, np.maximum(_end(a), _end(b)), _end(a)), _end(b))[used]
    after = (np.cumsum(p) - np.cumsum(q))[used]
    between = float((after[:-1] ** 2 * np.maximum(start[1:] - end[:-1], 0.0)).sum())
    top = (np.cumsum(p) - np.cumsum(q) + q)[used]
    bottom = (np.cumsum(p) - p - np.cumsum(q))[used]
    most = np.maximum(top**2, bottom**2)
    least = np.where(top * bottom <= 0, 0.0, np.minimum(top**2, bottom**2))
    low = between + float((least * (end - start)).sum())
    high = between + float((most * (end - start)).sum())
    rounding = 1e-9 * max(value, 1e-300)
    low, high = min(low, value) - rounding, max(high, value) + rounding
    found = [math.sqrt(max(2 * x / scale, 0.0)) for x in (value, low, high)]
    return Statistic(found[0], found[1], found[2], current.filled)


def _begin(bins: WithinBins) -> Floats:
    found: Floats = np.where(bins.atom, bins.mean, bins.lower)
    return found


def _end(bins: WithinBins) -> Floats:
    found: Floats = np.where(bins.atom, bins.mean, bins.upper)
    return found
