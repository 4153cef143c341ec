"""What to expect of a window: mean, season and trend of the baseline, each believed only as far as it is more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

TREND_WINDOWS = 28
"""Fewer windows show no trend that could be told from a wander."""


@dataclass(frozen=True, slots=True)
class Level:
    """Expected values: ``mean`` (C,), ``offset`` (S, C) of each season key, already shrunk by ``shrinkage`` (C,), and ``slope`` (C,)
    a window about position ``middle``."""

    mean: Floats
    offset: Floats
    shrinkage: Floats
    slope: Floats
    middle: float

    def at(self, season: Places, position: Floats) -> Floats:
        """The expected values of windows; (T, C)."""
        found: Floats = self.mean + self.offset[season] + (position - self.middle)[:, None] * self.slope
        return found


def level_of(value: Floats, season: Places, keys: int, position: Floats, trend: Floats) -> Level:
    """Mean, season and trend of windows (R, C); a season that explains no more than chance would is shrunk to nothing.

    The shrinkage is that of James and Stein: ``clip(1 - 1.5 / F, 0, 1)`` with F the ratio of the variance between seasons to
    that within; ``trend`` (C,) says how much of a straight trend to believe (`trend_shrinkage`).
    """
    middle = float(position.mean())
    centred = position - middle
    slope = trend * (centred @ value) / max(float(centred @ centred), 1e-12)
    flat = value - centred[:, None] * slope
    mean = flat.mean(0)
    offset, shrinkage = np.zeros((keys, value.shape[1])), np.zeros(value.shape[1])
    if keys > 1:
        counts = np.bincount(season, minlength=keys).astype(np.float64)
        residual = flat - mean
        sums = np.zeros_like(offset)
        np.add.at(sums, season, residual)
        means = sums / np.maximum(counts, 1.0)[:, None]
        present = float((counts > 0).sum())
        between = (counts[:, None] * means**2).sum(0)
        within = ((residual**2).sum(0) - between) / max(len(value) - present, 1.0)
        shrinkage = np.clip(1 - 1.5 * within / np.maximum(between / max(present - 1, 1.0), 1e-18), 0.0, 1.0)
        offset = means * shrinkage
    return Level(mean, offset, shrinkage, slope, middle)


def trend_shrinkage(value: Floats, season: Places, keys: int, position: Floats, first: Places) -> Floats:
    """How much of a straight trend to believe, (C,) in [0, 1).

    The F of each slope is taken against the noise of a wander with the observed memory. ``first`` are one contrast a column:
    where their mean F is above what chance gives, trends are common here and all are believed so far; a single one needs
    more.
    """
    windows = len(value)
    if windows < TREND_WINDOWS:
        return np.zeros(value.shape[1])
    flat = level_of(value, season, keys, position, np.zeros(value.shape[1]))
    residual = value - flat.at(season, position)
    centred = position - position.mean()
    size = max(float(centred @ centred), 1e-12)
    slope = (centred @ residual) / size
    rest = residual - centred[:, None] * slope
    power = np.maximum((rest**2).sum(0), 1e-18)
    memory = np.clip((rest[1:] * rest[:-1]).sum(0) / power + 4 / windows, 0.0, 0.9)
    ratio = slope**2 * size / (power / (windows - 2) * (1 + memory) / (1 - memory))
    own = np.clip(1 - 4.0 / np.maximum(ratio, 1e-18), 0.0, 1.0)
    common = max(1 - 1.3 / max(float(ratio[first].mean()), 1e-9), 0.0) if len(first) > 4 else 0.0
    believed: Floats = np.maximum(own, common)
    return believed


def blocks_of(windows: int, cycle: int) -> Places:
    """Which block each window is left out with: a whole season, at least a week; a fifth of a short baseline."""
    size = max(cycle, 7) if windows >= 4 * max(cycle, 7) else max(windows // 5, 1)
    found: Places = np.arange(windows) // size
    return found


def left_out(value: Floats, season: Places, keys: int, position: Floats, cycle: int, trend: Floats) -> Floats:
    """Deviations of each window from what the others, without its block, lead to expect: as honest as of the future."""
    block = blocks_of(len(value), cycle)
    found = np.empty_like(value)
    for number in np.unique(block):
        inside = block == number
        level = level_of(value[~inside], season[~inside], keys, position[~inside], trend)
        found[inside] = value[inside] - level.at(season[inside], position[inside])
    return found
