"""Groups of rows compared: how often each is selected, and how often rightly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from checks.core.interval import newcombe
from checks.core.result import Statistic
from checks.performance._interval import proportion
from checks.performance.counts import QualityCounts

RATES = ("selection_rate", "tpr", "fpr")


@dataclass(frozen=True, slots=True)
class Gap:
    """One rate of a group, and its difference and ratio to the reference group's."""

    group: str
    rate: str
    value: Statistic
    difference: Statistic
    ratio: Statistic


def parts(counts: QualityCounts, rate: str) -> tuple[float, float]:
    """Hits and trials of a rate: selected of all, of the positives (tpr), of the negatives (fpr)."""
    if rate == "selection_rate":
        return counts.tp + counts.fp, counts.tp + counts.fp + counts.tn + counts.fn
    return (counts.tp, counts.tp + counts.fn) if rate == "tpr" else (counts.fp, counts.fp + counts.tn)


def gaps(groups: Mapping[str, QualityCounts], reference: str) -> list[Gap]:
    """Every group against the reference group.

    Differences have Newcombe's interval, ratios that of D. Katz et al. (Biometrics 34, 1978); both at 95% for all groups
    together, so that many groups do not make one of them stand out by chance (Bonferroni).
    """
    others = [name for name in groups if name != reference]
    z = _quantile(0.05 / max(len(others), 1))
    base = groups[reference]
    found = []
    for rate in RATES:
        x2, n2 = (v * base.scale for v in parts(base, rate))
        for name in others:
            counts = groups[name]
            x1, n1 = (v * counts.scale for v in parts(counts, rate))
            value = proportion(x1, n1)
            if n1 <= 0 or n2 <= 0:
                found.append(Gap(name, rate, value, Statistic.nothing(), Statistic.nothing()))
                continue
            n = round(min(n1, n2))
            difference = Statistic(x1 / n1 - x2 / n2, *newcombe(x1, n1, x2, n2, z), n)
            ratio = Statistic.nothing()
            if x1 > 0 and x2 > 0:
                at = math.log((x1 / n1) / (x2 / n2))
                half = z * math.sqrt(max(1 / x1 - 1 / n1 + 1 / x2 - 1 / n2, 0.0))
                ratio = Statistic(math.exp(at), math.exp(at - half), math.exp(at + half), n)
            found.append(Gap(name, rate, value, difference, ratio))
    return found


def _quantile(alpha: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - alpha / 2)
