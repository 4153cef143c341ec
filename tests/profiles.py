"""Profiles of arrays, by the same kernel as a scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from monitor.profiling.kernel import NumberAccumulator

NOTHING = np.zeros(0)
ALL_VALID = np.zeros(0, np.uint8)


def profile_numbers(binning: ColumnBinning, values: np.ndarray[Any, Any]) -> ColumnProfile:
    """The profile of ``values``, none of them null."""
    accumulator = NumberAccumulator(binning)
    accumulator.add(np.ascontiguousarray(values, np.float64), ALL_VALID, 0, NOTHING)
    return accumulator.profile()
