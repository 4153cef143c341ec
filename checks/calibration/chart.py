"""The first calibrated verdict: z of every contrast against its own baseline windows, under a Bonferroni bound.

A contrast's normal variance between windows is learned from the baseline, beside its sampling variance, so that what
wobbles every day does not alarm. The season (weekday, hour of week) moves the expected value, shrunk to zero where the
baseline shows none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from checks.calibration.contrasts import Contrast, column_contrasts
from checks.core.profile import Binning, Profile

Floats = NDArray[np.float64]

LEAST_WINDOWS = 3
LEARNED_WINDOWS = 28
PRIOR_WEIGHT = 20.0
MINIMUM_EFFECT = {"location": 0.05, "spread": 0.05, "category": 0.02, "other": 0.02, "missing": 0.005}


@dataclass(frozen=True, slots=True)
class Driver:
    """A contrast that stands out: effect against the expected value, and the usual range, both in ``unit``."""

    column: str
    contrast: str
    detail: str
    effect: float
    unit: str
    z: float
    usual: tuple[float, float]
    value: float


@dataclass(frozen=True, slots=True)
class DriftScore:
    """How unusual a window is; ``p_value`` is None when the baseline is too short to say."""

    p_value: float | None
    drivers: tuple[Driver, ...]
    windows: int
    contrasts: int
    seasonality: str
    learning: bool


@dataclass(frozen=True, slots=True)
class _Fit:
    expected: Floats
    tau2: Floats
    freedom: float
    uncertainty: Floats


def _fit(values: Floats, variances: Floats, season: NDArray[np.int64], now: int, group: NDArray[np.int64]) -> _Fit:
    windows, _ = values.shape
    mean = values.mean(0)
    residual = values - mean
    offset = np.zeros_like(mean)
    used = 1.0
    keys = np.unique(season)
    if len(keys) > 1:
        counts = np.array([(season == key).sum() for key in keys], np.float64)
        means = np.array([residual[season == key].mean(0) for key in keys])
        place = np.searchsorted(keys, season)
        within = ((residual - means[place]) ** 2).sum(0) / max(windows - len(keys), 1)
        between = (counts[:, None] * means**2).sum(0) / (len(keys) - 1)
        shrink = np.clip(1 - 1.5 * within / np.maximum(between, 1e-18), 0.0, 1.0)
        seasonal = means * shrink
        residual = residual - seasonal[place]
        if now in keys:
            offset = seasonal[int(np.searchsorted(keys, now))]
        used += float(shrink.mean()) * (len(keys) - 1)
    freedom = max(windows - used, 2.0)
    ratio = (residual**2 / variances).sum(0) / freedom
    population = np.bincount(group)
    column = np.bincount(group, ratio) / np.maximum(population, 1)
    moderated = np.maximum((PRIOR_WEIGHT * np.maximum(column, 1.0)[group] + freedom * ratio) / (PRIOR_WEIGHT + freedom), 1.0)
    typical = 1 / (1 / variances).mean(0)
    tau2 = (moderated - 1) * typical
    return _Fit(mean + offset, tau2, freedom + PRIOR_WEIGHT / 4, (tau2 + typical) * used / windows)


def score(
    binning: Binning, window: Profile, baseline: Sequence[Profile], seasons: Sequence[int], season: int, *,
    seasonality: str = "none", cycles: int = 1, weights: Mapping[str, float] | None = None,
    columns: Sequence[str] | None = None,
) -> DriftScore:
    """How unusual ``window`` is against ``baseline`` windows of the same binning.

    Parameters
    ----------
    seasons, season : the season key (weekday, hour of week) of every baseline window and of this one.
    cycles : keys in a whole season; under four whole seasons the state is learning.
    weights : divides a column's p-value; 0 leaves it out.
    columns : the columns that count; all features without it.
    """
    names = list(columns) if columns is not None else [c.name for c in binning.columns if c.role == "feature"]
    names = [name for name in names if (weights or {}).get(name, 1.0) > 0 and _measurable(binning, name)]
    count = len(baseline)
    learning = count < max(LEARNED_WINDOWS, 4 * cycles if seasonality != "none" else 0)
    if count < LEAST_WINDOWS or not names:
        return DriftScore(None, (), count, 0, seasonality, True)
    contrasts: list[Contrast] = []
    blocks: list[tuple[Floats, Floats, Floats]] = []
    for name in names:
        layouts = np.array([p.columns[name].layout() for p in [*baseline, window]], np.float64)
        found, values, variances, shown = column_contrasts(binning[name], layouts, layouts[:-1, :-2].sum(0))
        contrasts += found
        blocks.append((values, variances, shown))
    values, variances, shown = (np.hstack([block[i] for block in blocks]) for i in range(3))
    order = {name: index for index, name in enumerate(names)}
    group = np.array([order[c.column] for c in contrasts], np.int64)
    past = np.asarray(seasons if seasonality != "none" else [0] * count, np.int64)
    now = season if seasonality != "none" else 0
    fit = _fit(values[:-1], variances[:-1], past, now, group)
    spread = np.sqrt(variances[-1] + fit.tau2 + fit.uncertainty)
    z = (values[-1] - fit.expected) / spread
    tail = np.maximum(2 * stdtr(fit.freedom, -np.abs(z)), 1e-300)
    weight = np.array([(weights or {}).get(c.column, 1.0) for c in contrasts])
    usual_mid = _expected_shown(shown[:-1], past, now)
    wobble = shown[:-1].std(0) if count > 1 else np.zeros(len(contrasts))
    effect = shown[-1] - usual_mid
    least = np.array([MINIMUM_EFFECT[c.name] for c in contrasts])
    tail = np.where(np.abs(effect) < least, 1.0, np.minimum(tail / weight, 1.0))
    p_value = float(min(tail.min() * len(contrasts), 1.0))
    if p_value < 1 / count:
        p_value = float(np.sqrt(p_value / count))
    normal = np.sign(z) * -ndtri(np.maximum(stdtr(fit.freedom, -np.abs(z)), 1e-300))
    ranked = [i for i in np.argsort(tail) if tail[i] * len(contrasts) < 0.05][:20]
    drivers = tuple(
        Driver(
            contrasts[i].column, contrasts[i].name, contrasts[i].detail, float(effect[i]), contrasts[i].unit,
            float(normal[i]), (float(-2 * wobble[i]), float(2 * wobble[i])), float(shown[-1][i]),
        )
        for i in ranked
    )
    return DriftScore(p_value, drivers, count, len(contrasts), seasonality, learning)


def _measurable(binning: Binning, name: str) -> bool:
    column = binning[name]
    return column.kind == "text" or column.bins > 1


def _expected_shown(shown: Floats, seasons: NDArray[np.int64], now: int) -> Floats:
    same = seasons == now
    mean: Floats = shown[same].mean(0) if same.sum() >= 4 else shown.mean(0)
    return mean
