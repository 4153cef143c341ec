"""Slices of rows by the values of one or several categorical columns, in an order that the binning fixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from checks.core.binning import Binning, ColumnBinning
from checks.core.outputs import MISSING, OTHER, OutputCounts

MOST = {1: 200, 2: 30}
FEWEST = 10
"""At most so many reference categories per column of a slice key: 200 alone, 30 of two together, 10 of more."""


@dataclass(frozen=True, slots=True)
class SliceKey:
    """Columns whose values together name a slice; rarer categories of a combination fall into ``(other)``."""

    columns: tuple[ColumnBinning, ...]
    names: tuple[tuple[str, ...], ...]

    @property
    def size(self) -> int:
        """How many slices there can be."""
        total = 1
        for names in self.names:
            total *= len(names)
        return total

    def place(self, index: int, code: int) -> int:
        """Where category ``code`` of column ``index`` (other and missing after the last) stands in this key."""
        kept = len(self.names[index]) - 2
        bins = self.columns[index].bins
        return code if code < kept else kept if code <= bins else kept + 1

    def label(self, code: int) -> str:
        """``origin=JFK & carrier=AA``."""
        parts = []
        for column, names in zip(reversed(self.columns), reversed(self.names), strict=True):
            code, at = divmod(code, len(names))
            parts.append(f"{column.name}={names[at]}")
        return " & ".join(reversed(parts))


def slice_keys(binning: Binning, groups: Sequence[tuple[str, ...]]) -> tuple[SliceKey, ...]:
    """The keys of those ``groups`` whose columns are all categories of the binning."""
    known = {c.name: c for c in binning.columns if c.kind == "category"}
    found = []
    for group in groups:
        if all(name in known for name in group):
            most = MOST.get(len(group), FEWEST)
            columns = tuple(known[name] for name in group)
            found.append(SliceKey(columns, tuple((*c.categories[:most], OTHER, MISSING) for c in columns)))
    return tuple(found)


def split(key: SliceKey, counted: OutputCounts, width: int) -> dict[str, OutputCounts]:
    """Counts by slice from counts whose cells are ``slice * width + cell``."""
    if not len(counted.cells):
        return {}
    codes = counted.cells // width
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    ends = [*starts[1:].tolist(), len(codes)]
    found: dict[str, OutputCounts] = {}
    for a, b in zip(starts.tolist(), ends, strict=True):
        label, here = key.label(int(codes[a])), OutputCounts(counted.cells[a:b] % width, counted.counts[a:b])
        found[label] = found[label] + here if label in found else here  # a category may be called (missing)
    return found
