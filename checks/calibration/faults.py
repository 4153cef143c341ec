"""Faults injected into a window's profile: what its counts would have been, had the rows been changed so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from checks.core.binning import ColumnBinning
from checks.core.column import ColumnProfile
from checks.core.cross import CrossProducts
from checks.core.profile import Profile

Fault = Callable[[Profile, str, int], Profile]
"""``(profile, column, windows since the fault began, from 0) -> the profile with the fault``."""

STEPS = 20


def _with(profile: Profile, name: str, column: ColumnProfile) -> Profile:
    changed = replace(profile)
    changed.columns = {**profile.columns, name: column}
    return changed


def affine(binning: ColumnBinning, column: ColumnProfile, factor: float, offset: float) -> ColumnProfile:
    """The profile of ``factor * x + offset``, the mass of every bin spread evenly between its ends."""
    rows = column.filled
    if not rows or not binning.edges:
        return column
    inner = np.asarray(binning.edges)
    knots = np.r_[min(column.minimum, inner[0]), inner, max(column.maximum, inner[-1])]
    below = np.r_[0.0, np.cumsum(column.counts)] / rows
    knots, place = np.unique(knots, return_index=True)
    share = np.interp((inner - offset) / factor, knots, below[place], left=0.0, right=1.0)
    edges = np.round(np.r_[0.0, share, 1.0] * rows).astype(np.int64)
    counts = np.maximum(np.diff(edges), 0)
    mean = column.total / rows
    total = factor * column.total + offset * rows
    variance = max(column.square / rows - (mean - binning.center) ** 2, 0.0) * factor**2
    square = rows * (variance + (total / rows - binning.center) ** 2)
    ends = sorted((factor * column.minimum + offset, factor * column.maximum + offset))
    middle = np.r_[inner[0], (inner[1:] + inner[:-1]) / 2, inner[-1]]
    return ColumnProfile(counts, counts * middle, column.nulls, column.nans, column.other, ends[0], ends[1], total, square)


def shifted(by: float) -> Fault:
    """The mean moves by so many standard deviations of the reference."""

    def fault(profile: Profile, name: str, since: int) -> Profile:
        binning = profile.binning[name]
        return _with(profile, name, affine(binning, profile.columns[name], 1.0, by * binning.spread))

    return fault


def gradual(profile: Profile, name: str, since: int) -> Profile:
    """The mean moves by one standard deviation in 20 windows."""
    return shifted(min(since + 1, STEPS) / STEPS)(profile, name, since)


def spread(profile: Profile, name: str, since: int) -> Profile:
    """The standard deviation grows by half, about the mean."""
    column = profile.columns[name]
    return _with(profile, name, affine(profile.binning[name], column, 1.5, -0.5 * (column.mean() or 0.0)))


def unit(profile: Profile, name: str, since: int) -> Profile:
    """Logged as 1.8 x + 32."""
    return _with(profile, name, affine(profile.binning[name], profile.columns[name], 1.8, 32.0))


def _moved(column: ColumnProfile, counts: NDArray[np.int64], other: int = 0, nulls: int = 0) -> ColumnProfile:
    share = counts.sum() / max(column.filled, 1)
    return ColumnProfile(
        counts, column.sums * share, column.nulls + nulls, column.nans, column.other + other, column.minimum, column.maximum,
        column.total * share, column.square * share,
    )


def mix(profile: Profile, name: str, since: int) -> Profile:
    """Ten points of the rows go from the largest category to the next."""
    column = profile.columns[name]
    order = np.argsort(-column.counts, kind="stable")
    counts = column.counts.copy()
    moved = min(round(0.1 * column.rows), int(counts[order[0]]))
    counts[order[0]] -= moved
    counts[order[1]] += moved
    return _with(profile, name, _moved(column, counts))


def _taken(column: ColumnProfile, share: float) -> tuple[NDArray[np.int64], int]:
    """The counts without a share of the rows, and how many rows that is."""
    kept = np.floor(column.counts * (1 - share) + 0.5).astype(np.int64)
    return kept, int(column.counts.sum() - kept.sum())


def new_category(profile: Profile, name: str, since: int) -> Profile:
    """Two percent of the rows hold a category never seen."""
    counts, gone = _taken(profile.columns[name], 0.02)
    return _with(profile, name, _moved(profile.columns[name], counts, other=max(gone, round(0.02 * profile.rows))))


def more_nulls(profile: Profile, name: str, since: int) -> Profile:
    """Five percent of the rows turn null."""
    counts, gone = _taken(profile.columns[name], 0.05)
    return _with(profile, name, _moved(profile.columns[name], counts, nulls=max(gone, round(0.05 * profile.rows))))


def uncorrelated(profile: Profile, name: str, since: int) -> Profile:
    """The column keeps its distribution and loses its correlation with every other."""
    names = [c.name for c in profile.binning.crossed]
    if profile.cross is None or name not in names:
        return profile
    place, cross = names.index(name), profile.cross
    products = cross.products.copy()
    alone = cross.sums[place, :] * cross.sums[:, place] / np.maximum(cross.pairs[place, :], 1)
    own = products[place, place]
    products[place, :] = products[:, place] = alone
    products[place, place] = own
    changed = replace(profile)
    changed.cross = CrossProducts(cross.pairs, cross.sums, products, cross.sampled)
    return changed


def halved(profile: Profile, name: str, since: int) -> Profile:
    """Half of the rows stay away."""
    random = np.random.default_rng(profile.rows)
    columns = {}
    for key, column in profile.columns.items():
        counts = random.binomial(column.counts, 0.5).astype(np.int64)
        kept = _moved(column, counts)
        kept.nulls, kept.nans, kept.other = column.nulls // 2, column.nans // 2, column.other // 2
        columns[key] = kept
    changed = replace(profile)
    changed.columns, changed.rows = columns, profile.rows // 2
    changed.versions = {name: count // 2 for name, count in profile.versions.items()}
    return changed


NUMERIC: dict[str, Fault] = {
    "mean +0.25 sd": shifted(0.25), "mean +0.5 sd": shifted(0.5), "mean +1 sd": shifted(1.0), "spread x1.5": spread,
    "unit x1.8+32": unit, "correlation broken": uncorrelated, "gradual, 1 sd in 20 windows": gradual,
}
CATEGORICAL: dict[str, Fault] = {"category mix 10 points": mix, "new category 2%": new_category}
ANY: dict[str, Fault] = {"+5% nulls": more_nulls}
WHOLE: dict[str, Fault] = {"volume halved": halved}
