"""The calibrated chart: how unusual a window is against its own normal windows, and what drives that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.calibration.contrasts import Contrast, Contrasts, Panel, Values
from checks.calibration.fit import Judgement, Normal, fit
from checks.calibration.level import level_of
from checks.calibration.names import CORRELATION, ROWS
from checks.core.binning import Binning, ColumnBinning
from checks.core.profile import Profile

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

LEAST_WINDOWS = 3
LEARNED_WINDOWS = 28
LEARNED_CYCLES = 4
DISCOVERIES = 0.05
"""The false discovery rate of the drivers that are listed (Benjamini and Hochberg 1995)."""
MOST_DRIVERS = 20


@dataclass(frozen=True, slots=True)
class Driver:
    """A contrast that stands out: effect against the expected value, and the usual range, both in ``unit``.

    ``value`` and ``expected`` are in ``unit``, too; ``observed`` and ``usually`` are plain numbers that anybody can recompute:
    means for a location, standard deviations for a spread, the rows of a window.
    """

    column: str
    contrast: str
    detail: str
    effect: float
    unit: str
    z: float
    usual: tuple[float, float]
    value: float
    expected: float
    observed: float | None = None
    usually: float | None = None


@dataclass(frozen=True, slots=True)
class DriftScore:
    """How unusual a window is; ``p_value`` is None when the baseline is too short to say.

    ``raw`` is the p-value before effects too small to matter were left out; ``effective`` the number of independent windows
    that the baseline is worth: below ``1 / effective`` a p-value is an extrapolation.
    """

    p_value: float | None
    drivers: tuple[Driver, ...]
    windows: int
    contrasts: int
    seasonality: str
    learning: bool
    raw: float | None = None
    effective: float = 0.0


@dataclass(frozen=True, slots=True)
class Season:
    """The season of windows: its ``name``, the keys of the baseline's windows and how many keys make a whole one."""

    name: str = "none"
    keys: Sequence[int] = ()
    cycle: int = 1


@dataclass(frozen=True, slots=True)
class Accepted:
    """From the window at ``position`` on the level of ``columns`` (None: of all) is normal, as a person or time has decided."""

    position: float
    columns: frozenset[str] | None = None


class Chart:
    """A chart fitted to a baseline.

    Parameters
    ----------
    binning : the frozen binning of every profile.
    baseline : profiles of normal windows, in order; at least 3 (`LEAST_WINDOWS`) for a verdict.
    positions : their places on the grid of windows; None: one after the other.
    season : their season keys.
    weights : of columns and of ``(rows)`` and ``(correlation)``: divides a column's p-value; 0 leaves it out.
    columns : the columns that count; all features without it.
    accepted : levels that were made normal inside the baseline.
    widen : multiplies the number of chances of alarm.
    virtual : whether rows and correlation are looked at, too.
    """

    def __init__(
        self, binning: Binning, baseline: Sequence[Profile], positions: Sequence[float] | None = None, season: Season | None = None, *,
        weights: Mapping[str, float] | None = None, columns: Sequence[str] | None = None, accepted: Sequence[Accepted] = (),
        widen: float = 1.0, virtual: bool = True,
    ) -> None:
        season = season or Season()
        self.season = season
        self.windows = len(baseline)
        weights = weights or {}
        names = list(columns) if columns is not None else [c.name for c in binning.columns if c.role == "feature"]
        self.columns = [binning[n] for n in names if weights.get(n, 1.0) > 0]
        self._profiles = baseline
        self.normal: Normal | None = None
        needed = LEARNED_CYCLES * season.cycle if season.name != "none" and season.cycle > 1 else 0
        self.learning = self.windows < max(LEARNED_WINDOWS, needed)
        if self.windows < LEAST_WINDOWS or not (self.columns or virtual):
            return
        panel = Panel.of(self.columns, baseline)
        correlation, crossed = _correlation(panel, binning, self.columns, weights)
        self.contrasts = Contrasts(
            self.columns, panel.counts.sum(0), correlation, crossed, rows=virtual and weights.get(ROWS, 1.0) > 0,
        )
        if not len(self.contrasts):
            return
        self._position = np.asarray(positions if positions is not None else np.arange(self.windows), np.float64)
        self._keys = np.asarray(season.keys if len(season.keys) == self.windows else np.zeros(self.windows), np.int64) % season.cycle
        self.values, extra = _accept(_filled(self.contrasts.of(panel)), self.contrasts, self._keys, self._position, season.cycle, accepted)
        weight = np.array([weights.get(self.contrasts.names[g], 1.0) for g in self.contrasts.group])
        self.normal = fit(self.values, self._keys, self._position, self.contrasts, weight, cycle=season.cycle, extra=extra, widen=widen)
        self._shown = level_of(self.values.shown, self._keys, season.cycle, self._position, self.normal.trend)

    def score(self, window: Profile, season: int = 0, position: float | None = None) -> DriftScore:
        """How unusual ``window`` is, at its place on the grid (the next one, without it) and in its season."""
        if self.normal is None:
            return DriftScore(None, (), self.windows, 0, self.season.name, True)
        place = float(position) if position is not None else float(self._position[-1]) + 1.0
        panel = Panel.of(self.columns, [window])
        if panel.correlation is None and self.contrasts.correlated:
            panel = self.contrasts.without_correlation(panel)
        found = self.contrasts.of(panel)
        key = season % self.season.cycle
        expected = np.clip(self._shown.at(np.array([key]), np.array([place]))[0], self.contrasts.lowest, self.contrasts.highest)
        effect = found.shown[0] - expected
        least = self.contrasts.least * np.where(self.contrasts.relative, np.maximum(expected, 1.0), 1.0)
        known = np.isfinite(found.value[0])
        value = np.where(known, found.value[0], self.normal.level.at(np.array([key]), np.array([place]))[0])
        judged = self.normal.judge(value, found.variance[0], key, place, (np.abs(effect) >= least) & known)
        drivers = self._drivers(window, judged, found.shown[0], expected, known)
        return DriftScore(
            judged.p_value, drivers, self.windows, len(self.contrasts), self.season.name, self.learning, judged.raw, self.normal.effective,
        )

    def _drivers(self, window: Profile, judged: Judgement, shown: Floats, expected: Floats, known: NDArray[np.bool_]) -> tuple[Driver, ...]:
        group = self.contrasts.group
        tails = np.where(known, judged.tails, 1.0)
        size = np.bincount(group)
        columns = np.ones(len(size))
        np.minimum.at(columns, group, tails)
        columns = np.minimum(columns * size, 1.0)
        # Benjamini and Hochberg over columns: over contrasts one column's many would carry others' noise along.
        ranked = np.argsort(columns, kind="stable")
        limits = DISCOVERIES * np.arange(1, len(ranked) + 1) / len(ranked)
        passed = int(np.flatnonzero(np.r_[True, columns[ranked] <= limits])[-1])
        named = set(ranked[: max(passed, 1)].tolist())
        chosen = [int(i) for i in np.argsort(tails, kind="stable") if group[i] in named and tails[i] * size[group[i]] <= DISCOVERIES]
        chosen = (chosen or [int(np.argmin(tails))])[:MOST_DRIVERS]
        return tuple(self._driver(i, window, judged, shown, expected) for i in chosen)

    def _driver(self, index: int, window: Profile, judged: Judgement, shown: Floats, expected: Floats) -> Driver:
        about = self.contrasts.about[index]
        history = self.values.shown[:, index]
        wobble = 2 * float(np.std(history - _seasonal(history, self._keys)))
        sudden, slow = float(judged.sudden[index]), float(judged.slow[index])
        observed, usually = self._plain(about, window, float(shown[index]), float(expected[index]))
        return Driver(
            about.column, about.name, about.detail, float(shown[index] - expected[index]), about.unit,
            sudden if abs(sudden) >= abs(slow) else slow, (-wobble, wobble), float(shown[index]), float(expected[index]), observed, usually,
        )

    def _plain(self, about: Contrast, window: Profile, shown: float, expected: float) -> tuple[float | None, float | None]:
        """What anybody can recompute from the rows: means, standard deviations, rows."""
        if about.name == "rows":
            return shown, expected
        if about.name not in ("location", "spread"):
            return None, None
        column = next(c for c in self.columns if c.name == about.column)

        def measured(profile: Profile) -> float | None:
            part = profile.columns[column.name]
            return part.mean() if about.name == "location" else part.deviation(column.center)

        past = [m for p in self._profiles if (m := measured(p)) is not None]
        return measured(window), float(np.mean(past)) if past else None


def _seasonal(history: Floats, keys: Places) -> Floats:
    """Per window the mean of the windows of its season, where there are enough to tell."""
    counts = np.bincount(keys)
    means = np.bincount(keys, history) / np.maximum(counts, 1)
    found: Floats = np.where(counts[keys] >= 4, means[keys], history.mean())
    return found


def _correlation(
    panel: Panel, binning: Binning, columns: Sequence[ColumnBinning], weights: Mapping[str, float],
) -> tuple[Floats | None, list[str]]:
    """The usual correlation of the crossed columns, and their names; None where there is nothing to correlate."""
    if panel.correlation is None or not weights.get(CORRELATION, 1.0):
        return None, []
    wanted = {c.name for c in columns}
    crossed = [c.name for c in binning.crossed if c.name in wanted]
    finite = np.isfinite(panel.correlation)
    known = finite.sum(0)
    usual = np.where(known > 0, np.where(finite, panel.correlation, 0.0).sum(0) / np.maximum(known, 1), 0.0)
    return usual, crossed


def _filled(values: Values) -> Values:
    """The values with unknown correlations at what they are in the other windows."""
    if np.isfinite(values.value).all():
        return values
    tables = []
    for table in (values.value, values.shown):
        known = np.isfinite(table)
        mean = np.where(known, table, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        tables.append(np.where(known, table, mean))
    return Values(tables[0], values.variance, tables[1])


def _accept(
    values: Values, contrasts: Contrasts, keys: Places, position: Floats, cycle: int, accepted: Sequence[Accepted],
) -> tuple[Values, Floats]:
    """The values with the windows before an accepted level moved to it, and how uncertain that level still is, (C,)."""
    value, shown = values.value, values.shown
    extra = np.zeros(value.shape[1])
    still = np.zeros(value.shape[1])
    for item in sorted(accepted, key=lambda a: a.position):
        before, after = position < item.position, position >= item.position
        if not before.any() or not after.any():
            continue
        hit = np.array([item.columns is None or contrasts.names[g] in item.columns for g in contrasts.group])
        value, shown = value.copy(), shown.copy()
        for table in (value, shown):
            level = level_of(table[before], keys[before], cycle, position[before], still)
            moved = (table[after] - level.at(keys[after], position[after])).mean(0)
            table[before] += np.where(hit, moved, 0.0)
        extra = np.where(hit, np.maximum(extra, 1 / after.sum()), extra)
    return Values(value, values.variance, shown), extra


__all__ = ["LEARNED_WINDOWS", "Accepted", "Chart", "DriftScore", "Driver", "Season"]
