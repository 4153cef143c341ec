"""Counts of scores, predicted classes and labels together, per slice."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from checks.core.binning import Binning

Counts = NDArray[np.int64]

SCORE_BINS = 512
"""Equal bins of the score on [0, 1]; an area under the curve from them is within 0.001 of the exact one."""

BAD_SCORE, NO_SCORE = SCORE_BINS, SCORE_BINS + 1
"""The places of a score that is NaN or outside [0, 1], and of a null one."""

ALL = "ALL"
OTHER, MISSING = "(other)", "(missing)"


def output_shape(binning: Binning) -> tuple[int, int, int]:
    """How many places score, class and label have: bins or categories, and two for other and missing; 1 where absent."""

    def size(role: str) -> int:
        column = binning.of_role(role)
        return 1 if column is None or column.kind != "category" else column.bins + 2

    return (SCORE_BINS + 2 if binning.of_role("score") else 1, size("prediction"), size("label"))


@dataclass(frozen=True, slots=True)
class OutputCounts:
    """The rows of one slice by (score bin, predicted class, label), held sparsely.

    ``cells`` are ascending positions in an array of the binning's `output_shape`, ``counts`` the rows in each.
    """

    cells: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))

    def __add__(self, other: OutputCounts) -> OutputCounts:
        cells, place = np.unique(np.concatenate([self.cells, other.cells]), return_inverse=True)
        counts = np.zeros(len(cells), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return OutputCounts(cells, counts)

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def dense(self, shape: tuple[int, int, int]) -> Counts:
        """The counts as an array of ``shape``: (score bin, class, label)."""
        full = np.zeros(shape[0] * shape[1] * shape[2], np.int64)
        full[self.cells] = self.counts
        return full.reshape(shape)

    @classmethod
    def of(cls, dense: Counts) -> OutputCounts:
        """The sparse form of a flat array."""
        cells = np.flatnonzero(dense)
        return cls(cells.astype(np.int64), dense[cells].astype(np.int64))
