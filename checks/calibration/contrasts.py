"""Contrasts: what the chart looks at, each linear in counts, so that its sampling variance is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from checks.calibration.names import CORRELATION, ROWS
from checks.core.binning import ColumnBinning
from checks.core.profile import Profile

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

GROUPS = 20
"""A numeric column's bins are looked at in so many groups of about equal reference mass, and its two tails apart."""

CLOSE = 0.95
"""Correlations closer than this are not told apart: a column that hardly varies in a window reaches them by itself."""

RARE = 0.004
"""Rarer shares are not corrected for skewness: their counts are too few for any normal deviate."""

LEAST_PAIRS = 10
"""A correlation of fewer rows is none."""

LEAST_EFFECT = {
    "location": 0.05, "spread": 0.05, "bin": 0.02, "category": 0.02, "other": 0.005, "missing": 0.005, "rows": 0.05,
    "correlation": 0.05, "mahalanobis": 0.05,
}
"""The smallest effect that matters, in the contrast's unit: what is below alarms nobody, however sure it is."""

KINDS = {
    "location": 0, "spread": 1, "bin": 2, "category": 2, "other": 2, "missing": 3, "rows": 4, "correlation": 5, "mahalanobis": 5,
}
"""Which contrasts share how heavy their tails are."""

UNITS = {"location": "sd", "spread": "sd", "rows": "rows", "correlation": "r", "mahalanobis": "distance"}
"""The unit of a contrast; of all others it is a share of rows."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What is known of T windows under one binning.

    Parameters
    ----------
    counts : (T, L), the layouts ``[bins.., other, missing]`` of the columns side by side.
    rows : (T,).
    correlation : (T, k, k) of the crossed numeric columns, NaN where unknown; None where it was not taken.
    pairs : (T, k, k), the rows that each pair of them has.
    """

    counts: Floats
    rows: Floats
    correlation: Floats | None = None
    pairs: Floats | None = None

    @classmethod
    def of(cls, columns: Sequence[ColumnBinning], profiles: Sequence[Profile]) -> Panel:
        """The panel of ``profiles``; correlation where every one of them has cross products."""
        width = sum(c.bins + 2 for c in columns)
        counts = np.empty((len(profiles), width))
        for row, profile in zip(counts, profiles, strict=True):
            parts = [profile.columns[c.name].layout() for c in columns]
            row[:] = np.concatenate(parts) if parts else 0.0
        rows = np.array([p.rows for p in profiles], np.float64)
        wanted = {c.name for c in columns}
        crossed = [c.name for c in profiles[0].binning.crossed] if profiles else []
        kept = [i for i, name in enumerate(crossed) if name in wanted]
        if len(kept) < 2 or all(p.cross is None for p in profiles):
            return cls(counts, rows)
        at = np.ix_(kept, kept)
        found, pairs = np.full((len(profiles), len(kept), len(kept)), np.nan), np.zeros((len(profiles), len(kept), len(kept)))
        for index, profile in enumerate(profiles):
            if profile.cross is not None:
                found[index], pairs[index] = profile.cross.correlation()[at], profile.cross.pairs[at]
        return cls(counts, rows, np.where(pairs >= LEAST_PAIRS, found, np.nan), pairs)


@dataclass(frozen=True, slots=True)
class Contrast:
    """What one contrast is about: ``name`` as in `LEAST_EFFECT`; ``detail`` says which bin, category or pair of columns."""

    column: str
    name: str
    detail: str = ""

    @property
    def unit(self) -> str:
        """``sd`` (normal scores under the reference), ``rows``, ``r``, ``distance`` or ``share``."""
        return UNITS.get(self.name, "share")


@dataclass(frozen=True, slots=True)
class Values:
    """C contrasts in T windows: values and sampling variances, and the values in their unit; all (T, C)."""

    value: Floats
    variance: Floats
    shown: Floats


def normal_scores(reference: Floats) -> tuple[Floats, float]:
    """Each bin's normal score, of mean 0 and variance 1 under the reference counts, (bins,); and the standard deviation of its
    square, 0 where there is nothing to tell a spread by."""
    shares = (reference + 0.5) / (reference + 0.5).sum()
    score = ndtri(np.clip(np.cumsum(shares) - shares / 2, 1e-4, 1 - 1e-4))
    score = score - (shares * score).sum()
    size = float(np.sqrt((shares * score**2).sum()))
    if size < 1e-6:
        return np.zeros_like(shares), 0.0
    score = score / size
    square = float(np.sqrt(max((shares * score**4).sum() - 1, 0.0)))
    return score, square if square > 0.3 else 0.0


def arcsine(count: Floats, total: Floats) -> Floats:
    """``2 asin sqrt((k + 3/8) / (m + 3/4))``, of variance ``1 / (m + 1/2)`` whatever the share (Anscombe 1948)."""
    angle: Floats = 2 * np.arcsin(np.sqrt(np.clip((count + 0.375) / (total + 0.75), 0.0, 1.0)))
    return angle


def group_starts(reference: Floats) -> list[int]:
    """Where the groups of a numeric column's bins begin: about `GROUPS` of equal mass, the first and last bin apart."""
    bins = len(reference)
    if bins <= 3:
        return list(range(bins))
    total = max(float(reference.sum()), 1.0)
    middle = (np.cumsum(reference) - reference / 2) / total
    group = np.minimum((middle * GROUPS).astype(np.int64), GROUPS - 1)
    group[0], group[-1] = -1, GROUPS
    group = np.maximum.accumulate(group)
    return [0, *(np.flatnonzero(np.diff(group)) + 1).tolist()]


class Contrasts:
    """The contrasts of a set of columns, frozen under a reference.

    Parameters
    ----------
    columns : the columns to look at.
    reference : (L,), the counts of the reference, laid out as in `Panel`.
    correlation : (k, k), the usual correlation of the crossed columns, or None.
    crossed : their names.
    rows : whether the number of rows is looked at, too.

    ``about`` says what each of the C contrasts is, ``group`` (C,) to which column it belongs (by number in ``names``),
    ``skewness`` (C,) is that of one row's contribution, ``least`` (C,) the smallest effect that matters, ``lowest`` and
    ``highest`` (C,) what a value in its unit can be; ``bare`` marks nulls
    and unseen values, ``first`` the first contrast of each column; ``member`` (C,) puts like contrasts of one column together,
    and ``kind`` says of each such family what it is.
    """

    def __init__(
        self, columns: Sequence[ColumnBinning], reference: Floats, correlation: Floats | None = None, crossed: Sequence[str] = (),
        *, rows: bool = True,
    ) -> None:
        self.names = [c.name for c in columns]
        self.about: list[Contrast] = []
        group: list[int] = []
        skewness: list[float] = []
        sizes = np.array([c.bins + 2 for c in columns], np.int64)
        starts = np.r_[0, np.cumsum(sizes)].astype(np.int64)
        width = int(starts[-1])
        self._starts = starts[:-1]
        # Location and spread of numeric columns, as score-weighted sums over their bins.
        self._scores = np.zeros((2, width))
        scored: list[tuple[int, int]] = []
        scales: list[float] = []
        grouped: list[int] = []
        owner: list[int] = []
        label: list[tuple[str, str]] = []
        for index, column in enumerate(columns):
            at, bins = int(starts[index]), column.bins
            counts = reference[at : at + bins]
            if column.kind == "numeric" and bins > 1:
                shares = (counts + 0.5) / (counts + 0.5).sum()
                score, square = normal_scores(counts)
                self._scores[0, at : at + bins] = score
                self._scores[1, at : at + bins] = score**2 - 1
                if score.any():
                    scored.append((0, index))
                    skewness.append(float((shares * score**3).sum()))
                    scales.append(1.0)
                    if square:
                        scored.append((1, index))
                        skewness.append(float((shares * ((score**2 - 1) / square) ** 3).sum()))
                        scales.append(square)
                begin = group_starts(counts)
                ends = [*begin[1:], bins]
                for first, last in zip(begin, ends, strict=True):
                    grouped.append(at + first)
                    label.append(("bin", _range(column, first, last)))
            else:
                for place in range(bins):
                    grouped.append(at + place)
                    label.append(("category" if column.kind == "category" else "bin", column.categories[place] if column.categories else ""))
            grouped += [at + bins, at + bins + 1]
            label += [("other", ""), ("missing", "")]
            owner += [index] * (len(label) - len(owner))
        self._scored = scored
        self._scale = np.array(scales)
        for degree, index in scored:
            self.about.append(Contrast(self.names[index], ("location", "spread")[degree]))
            group.append(index)
        self._grouped = np.array(grouped, np.int64)
        self._owner = np.array(owner, np.int64)
        self._text = np.array([columns[i].kind == "text" for i in owner], bool)
        self._missing = np.array([name == "missing" for name, _ in label], bool)
        self._column_missing = np.array([s + size - 1 for s, size in zip(starts[:-1], sizes, strict=True)], np.int64)
        self._column_other = self._column_missing - 1
        part = np.add.reduceat(reference, self._grouped) if len(grouped) else np.zeros(0)
        whole = np.add.reduceat(reference, self._starts)[self._owner] if len(grouped) else np.zeros(0)
        share = part / np.maximum(whole, 1.0)
        for (name, detail), index, p in zip(label, owner, share.tolist(), strict=True):
            self.about.append(Contrast(self.names[index], name, detail))
            group.append(index)
            # What the arcsine leaves of a rare share's skewness, and takes too much of.
            rare = max(p, RARE)
            skewness.append(-(1 - 2 * rare) / (2 * float(np.sqrt(rare * (1 - rare)))) if RARE / 2 < p < 0.5 else 0.0)
        self._rows = rows
        if rows:
            self.names.append(ROWS)
            self.about.append(Contrast(ROWS, "rows"))
            group.append(len(self.names) - 1)
            skewness.append(0.0)
        self._pairs: tuple[Places, Places] | None = None
        if correlation is not None and len(crossed) > 1:
            self._add_correlation(correlation, crossed, group, skewness)
        self.group = np.array(group, np.int64)
        self.skewness = np.array(skewness)
        self.least = np.array([LEAST_EFFECT[c.name] for c in self.about])
        parts = np.array([c.unit == "share" for c in self.about], bool)
        self.lowest = np.where(parts | self.relative, 0.0, -np.inf)
        self.highest = np.where(parts, 1.0, np.inf)
        self.bare = np.array([c.name in ("missing", "other") for c in self.about], bool)
        self.first = np.unique(self.group, return_index=True)[1].astype(np.int64)
        places: dict[tuple[int, int], int] = {}
        self.member = np.array([places.setdefault((i, KINDS[c.name]), len(places)) for i, c in zip(group, self.about, strict=True)], np.int64)
        self.kind = np.array([kind for _, kind in places], np.int64)

    def _add_correlation(self, correlation: Floats, crossed: Sequence[str], group: list[int], skewness: list[float]) -> None:
        usual = np.where(np.isfinite(correlation), correlation, 0.0)
        np.fill_diagonal(usual, 1.0)
        self.names.append(CORRELATION)
        left, right = np.triu_indices(len(crossed), 1)
        self._pairs = (left, right)
        self._usual = usual[left, right]
        values, vectors = np.linalg.eigh((usual + usual.T) / 2)
        # A nearly collinear pair would make the distance one of rounding: no direction weighs more than ten.
        self._inverse = (vectors / np.maximum(values, 0.1)) @ vectors.T
        weight = 2 * self._inverse[left, right]
        self._distance_variance = max(float((weight**2 * (1 - usual[left, right] ** 2) ** 2).sum()), 1e-6)
        self.about.append(Contrast(CORRELATION, "mahalanobis"))
        self.about += [Contrast(CORRELATION, "correlation", f"{crossed[a]} ~ {crossed[b]}") for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        group += [len(self.names) - 1] * (1 + len(left))
        skewness += [0.0] * (1 + len(left))

    @property
    def correlated(self) -> bool:
        """Whether correlation is among the contrasts."""
        return self._pairs is not None

    @property
    def relative(self) -> NDArray[np.bool_]:
        """Which contrasts' least effect is a part of the expected value: (C,)."""
        return np.array([c.name == "rows" for c in self.about], bool)

    def without_correlation(self, panel: Panel) -> Panel:
        """The panel of windows without cross products: their correlation is unknown, the rest counts."""
        assert self._pairs is not None
        size = int(self._pairs[1].max()) + 1
        windows = len(panel.rows)
        return Panel(panel.counts, panel.rows, np.full((windows, size, size), np.nan), np.ones((windows, size, size)))

    def __len__(self) -> int:
        return len(self.about)

    def of(self, panel: Panel) -> Values:
        """The contrasts of the windows of a panel."""
        counts, rows = panel.counts, panel.rows[:, None]
        windows = len(counts)
        value, variance, shown = [], [], []
        if len(self._starts):
            whole = np.add.reduceat(counts, self._starts, axis=1)
            other, missing = counts[:, self._column_other], counts[:, self._column_missing]
            filled = whole - other - missing
            if self._scored:
                sums = [np.add.reduceat(counts * score, self._starts, axis=1) for score in self._scores]
                degrees = np.array([d for d, _ in self._scored])
                columns = np.array([i for _, i in self._scored])
                solid = np.maximum(filled[:, columns], 1.0)
                # The spread is that about the window's own mean: a shift alone must not look like one.
                location = sums[0][:, columns] / solid
                square = sums[1][:, columns] / solid - location**2
                value.append(np.where(degrees == 0, location, square / self._scale))
                variance.append(1 / solid)
                shown.append(np.where(degrees == 0, location, np.sqrt(np.maximum(1 + square, 0.0))))
            part = np.add.reduceat(counts, self._grouped, axis=1) if len(self._grouped) else np.zeros((windows, 0))
            total = np.where(self._missing | self._text, np.where(self._text, rows, whole[:, self._owner]), (filled + other)[:, self._owner])
            value.append(arcsine(part, total))
            variance.append(1 / (total + 0.5))
            shown.append(part / np.maximum(total, 1.0))
        if self._rows:
            value.append(np.log(rows + 0.5))
            variance.append(1 / (rows + 0.5))
            shown.append(rows)
        if self._pairs is not None:
            assert panel.correlation is not None
            assert panel.pairs is not None
            self._correlated(panel.correlation, panel.pairs, value, variance, shown)
        return Values(np.hstack(value), np.hstack(variance), np.hstack(shown))

    def _correlated(self, found: Floats, pairs: Floats, value: list[Floats], variance: list[Floats], shown: list[Floats]) -> None:
        assert self._pairs is not None
        left, right = self._pairs
        between = found[:, left, right]
        rows = np.maximum(pairs[:, left, right] - 3, 1.0)
        size = found.shape[-1]
        filled = np.where(np.isfinite(between), between, self._usual)  # a constant column correlates with nothing
        distance = (np.trace(self._inverse) + filled @ (2 * self._inverse[left, right]))[:, None] / size
        value += [distance, np.arctanh(np.clip(between, -CLOSE, CLOSE))]
        variance += [self._distance_variance / size**2 / np.median(rows, 1, keepdims=True), 1 / rows]
        shown += [distance, between]


def _range(column: ColumnBinning, first: int, last: int) -> str:
    """``below 3``, ``3 to 5``, ``above 5``: the values that the bins from ``first`` to before ``last`` hold."""
    edges = column.edges
    if first == 0:
        return f"below {edges[last - 1]:.4g}"
    if last > len(edges):
        return f"from {edges[first - 1]:.4g}"
    low, high = edges[first - 1], edges[last - 1]
    if high == np.nextafter(low, np.inf):
        return f"= {low:.4g}"
    return f"{low:.4g} to {high:.4g}"
