"""How far two distribution functions can be apart inside each bin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.statistics._intervals import within_bins

Floats = NDArray[np.float64]


class Ordered(NamedTuple):
    """Per bin: rows of both samples and before it, whether all of them are tied, and the bounds of the squared distance of the
    distribution functions between its ends."""

    reference: Floats
    current: Floats
    before_reference: Floats
    before_current: Floats
    tied: NDArray[np.bool_]
    least: Floats
    most: Floats


def ordered(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Ordered:
    """The bins that hold rows."""
    n, m = reference.filled, current.filled
    left, right = within_bins(binning, reference), within_bins(binning, current)
    a, b = reference.counts.astype(np.float64), current.counts.astype(np.float64)
    used = a + b > 0
    alone = (a == 0) | (b == 0)
    tied = (left.atom & right.atom & (alone | (left.mean == right.mean)))[used]
    a, b = a[used], b[used]
    before_a, before_b = np.cumsum(a) - a, np.cumsum(b) - b
    top = (before_a + a) / n - before_b / m
    bottom = before_a / n - (before_b + b) / m
    most = np.maximum(top**2, bottom**2)
    least = np.where(top * bottom <= 0, 0.0, np.minimum(top**2, bottom**2))
    return Ordered(a, b, before_a, before_b, tied, least, most)
