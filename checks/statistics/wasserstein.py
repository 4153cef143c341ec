"""The first Wasserstein distance."""

from __future__ import annotations

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._intervals import within_bins


@statistic("wasserstein", applies=("numeric",), symmetric=True)
def wasserstein(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, *, normed: bool = False) -> Statistic:
    """The area between the two distribution functions, in the unit of the column.

    Parameters
    ----------
    normed : divide by the standard deviation of the reference, at least 1e-3, so that columns can be compared.

    Notes
    -----
    Each bin's mass is taken at its own mean, known from the per-bin sums; what the mass can be spread inside its bin,
    at most ``2 (b - m)(m - a) / (b - a)`` a row, is folded into ``[low, high]``. Range [0, inf).

    References
    ----------
    A. Ramdas, N. Garcia Trillos, M. Cuturi, On Wasserstein two-sample testing and related families of nonparametric
    tests, Entropy 19 (2017).
    """
    if not reference.filled or not current.filled:
        return Statistic.nothing()
    a, b = within_bins(binning, reference), within_bins(binning, current)
    p, q = reference.counts / reference.filled, current.counts / current.filled
    points = np.concatenate([a.mean[p > 0], b.mean[q > 0]])
    mass = np.concatenate([p[p > 0], -q[q > 0]])
    order = np.argsort(points, kind="stable")
    gap = np.cumsum(mass[order])[:-1]
    value = float((np.abs(gap) * np.diff(points[order])).sum())
    blur = float((p * a.deviation()).sum() + (q * b.deviation()).sum())
    rounding = 1e-9 * max(abs(value), 1e-300)
    scale = max(reference.deviation(binning.center) or 0.0, 1e-3) if normed else 1.0
    low, high = max(value - blur - rounding, 0.0), value + blur + rounding
    return Statistic(value / scale, low / scale, high / scale, current.filled, "sd" if normed else "column")
