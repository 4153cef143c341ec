"""The largest change of a share."""

from __future__ import annotations

import numpy as np

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.result import Statistic
from checks.statistics import statistic
from checks.statistics._shares import paired


@statistic("l_infinity", applies=("category",), symmetric=True, upper=1.0)
def l_infinity(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """The largest absolute difference between the shares of one category, unseen and missing among them, in [0, 1].

    Notes
    -----
    No unit. It names one category and is blind to many small changes; the skew comparator of TensorFlow Data Validation.

    References
    ----------
    E. Breck, M. Zinkevich, N. Polyzotis, S. Whang, S. Roy, Data validation for machine learning, MLSys (2019).
    """
    left, right = paired(reference, current)
    return Statistic.exact(float(np.abs(left / left.sum() - right / right.sum()).max()), int(right.sum()))
