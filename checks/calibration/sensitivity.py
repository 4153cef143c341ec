"""The smallest change of each column that a fitted chart would find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from checks.calibration.chart import Chart
from checks.calibration.fit import CAP, SMOOTHING, SUDDEN_SHARE, Normal

WITHIN = (1, 3, 10)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Of one column: the smallest shift found half of the time within 1, 3 and 10 windows, in ``unit``.

    ``sd`` of a number's location; ``points`` (share of rows, in percent) of a category's commonest value; None where no shift is
    large enough.
    """

    column: str
    unit: str
    within: tuple[float | None, float | None, float | None]
    wobble: float


def needed(normal: Normal, limit: float) -> tuple[float, float]:
    """How many normal deviations the sudden and the slow channel need for a p-value of ``limit``."""
    p = limit if limit >= 1 / normal.effective else limit**2 * normal.effective
    sudden = -np.log1p(-min(p * SUDDEN_SHARE, 0.5)) / normal.chances
    if not normal.slow_chances:
        return float(-ndtri(sudden / 2)), np.inf
    slow = -np.log1p(-min(p * (1 - SUDDEN_SHARE), 0.5)) / normal.slow_chances
    return float(-ndtri(sudden / 2)), float(-ndtri(slow / 2))


def sensitivity(chart: Chart, limit: float) -> list[Sensitivity]:
    """The sensitivity of every column of a fitted chart at an alert limit; empty without a verdict."""
    normal = chart.normal
    if normal is None:
        return []
    sudden, slow = needed(normal, limit)
    found = []
    for index in chart.contrasts.first.tolist():
        about = chart.contrasts.about[index]
        if about.name not in ("location", "category"):
            continue
        freedom = float(normal.freedom[index])

        def deviation(z: float, freedom: float = freedom) -> float:
            """What the t distribution has at the place of a normal deviate: Wallace's formula, inverted."""
            scaled = z * (8 * freedom + 3) / (8 * freedom + 1)
            return float(np.sqrt(freedom * np.expm1(min(scaled**2 / freedom, 600.0))))

        size = float(np.sqrt(normal.typical[index] + normal.natural[index]))
        fresh = float(np.sqrt((normal.typical[index] + normal.unbiased[index]) * (1 - normal.recall[index] ** 2)))
        at_once = deviation(sudden) * min(size, fresh)
        results: list[float | None] = []
        for windows in WITHIN:
            reach = 1 - (1 - SMOOTHING) ** windows
            each = deviation(slow) * float(np.sqrt(normal.slow_variance[index])) / reach if np.isfinite(slow) else np.inf
            best = min(at_once, each * size if each <= CAP else np.inf)
            results.append(_shown(about.name, best, float(chart.values.shown[:, index].mean())))
        wobble = _shown(about.name, float(np.sqrt(normal.natural[index])), float(chart.values.shown[:, index].mean()))
        unit = "sd" if about.name == "location" else "points"
        found.append(Sensitivity(about.column, unit, (results[0], results[1], results[2]), wobble or 0.0))
    return found


def _shown(name: str, size: float, share: float) -> float | None:
    """A deviation in the unit of the reader; None beyond what a column can show."""
    if name == "location":
        return size if size < 3 else None
    angle = 2 * np.arcsin(np.sqrt(min(max(share, 0.0), 1.0)))
    moved = float(np.sin(min(angle + size, np.pi) / 2) ** 2) - share
    points = 100 * max(moved, share - float(np.sin(max(angle - size, 0.0) / 2) ** 2))
    return points if size < np.pi else None
