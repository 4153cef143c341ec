"""Counts of two profiles laid side by side, for the statistics that compare shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from checks.core.profile import ColumnBinning, ColumnProfile

Floats = NDArray[np.float64]


def paired(reference: ColumnProfile, current: ColumnProfile) -> tuple[Floats, Floats]:
    """Counts over ``[bins.., other, missing]`` of both, without the cells that are empty in both."""
    left, right = reference.layout().astype(np.float64), current.layout().astype(np.float64)
    used = (left + right) > 0
    return left[used], right[used]


def deciles(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, bins: int = 10) -> tuple[Floats, Floats]:
    """As `paired`, with a numeric column's bins grouped into ``bins`` of about equal reference mass."""
    if binning.kind != "numeric" or binning.bins <= bins:
        return paired(reference, current)
    mass = np.cumsum(reference.counts) / max(reference.filled, 1)
    middle = mass - reference.counts / (2 * max(reference.filled, 1))
    group = np.clip((middle * bins).astype(np.int64), 0, bins - 1)
    left = np.r_[np.bincount(group, reference.counts, bins), reference.other, reference.missing].astype(np.float64)
    right = np.r_[np.bincount(group, current.counts, bins), current.other, current.missing].astype(np.float64)
    used = (left + right) > 0
    return left[used], right[used]


def jeffreys(counts: Floats) -> Floats:
    """Shares smoothed by half a row in each of the K cells."""
    smoothed: Floats = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return smoothed
