"""What a bin's count and sum say of where its mass can lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from checks.core.profile import ColumnBinning, ColumnProfile


class WithinBins(NamedTuple):
    """Per bin: the mean of its mass, the ends it lies between, whether all of it lies on one place (``atom``), and whether that
    place is the bin's own lower edge (``at_edge``)."""

    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    atom: NDArray[np.bool_]
    at_edge: NDArray[np.bool_]

    def deviation(self) -> NDArray[np.float64]:
        """The largest mean absolute deviation from its mean that mass between the ends can have, per bin."""
        width = self.upper - self.lower
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = 2 * (self.upper - self.mean) * (self.mean - self.lower) / width
        return np.where((width > 0) & ~self.atom, np.maximum(worst, 0.0), 0.0)


def within_bins(binning: ColumnBinning, profile: ColumnProfile) -> WithinBins:
    """Bounds on the mass of every bin of a numeric column."""
    edges = np.asarray(binning.edges, np.float64)
    lower, upper = np.r_[-np.inf, edges], np.r_[edges, np.inf]
    own = lower
    used = profile.counts > 0
    lower = np.where(used, np.maximum(lower, profile.minimum), 0.0)
    upper = np.where(used, np.minimum(upper, profile.maximum), 0.0)
    mean = np.where(used, profile.sums / np.maximum(profile.counts, 1), 0.0)
    mean = np.clip(mean, lower, np.maximum(lower, upper))
    tiny = 1e-12 * np.maximum(np.abs(lower), 1e-300)
    atom = ~used | (mean - lower <= tiny) | (upper <= lower)
    with np.errstate(invalid="ignore"):
        at_edge = ~used | (atom & (mean - own <= 1e-12 * np.maximum(np.abs(own), 1e-300)))
    return WithinBins(mean, lower, upper, atom, at_edge)
