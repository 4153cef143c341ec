"""What other tools would say of the same windows, by their documented default rules, from the same bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, kolmogorov

from checks.core.binning import ColumnBinning

Floats = NDArray[np.float64]

RULES = (
    "KS or chi-square p<.05, any column", "PSI>.2, any column", "JS>.1, any column", "mean+3sd of JS over chunks, any column",
    "Evidently's defaults, any column", "Evidently's defaults, half of the columns", "alibi-detect TabularDrift, p<.05 corrected",
)
EVIDENTLY_LARGE = 1000


def alarms(columns: Sequence[ColumnBinning], counts: Floats, reference: int) -> NDArray[np.bool_]:
    """Which windows each rule alarms in, (T, rules), against the first ``reference`` windows taken together.

    Notes
    -----
    The p-values of KS are asymptotic, from the bins' edges; those of chi-square have no continuity correction. Evidently up to
    1000 rows of the reference tests p < .05, above it takes the normed Wasserstein distance of numbers and the Jensen-Shannon
    distance of categories beyond .1. The third rule is NannyML's: a column's distances in the reference's chunks give its limit.
    """
    place, p_values, psi, distance, evidently = 0, [], [], [], []
    for column in columns:
        part = counts[:, place : place + column.bins + 2]
        place += column.bins + 2
        usual = part[:reference].sum(0)
        n, m = usual.sum(), part.sum(1)
        if column.kind == "numeric":
            core, base = part[:, :-2], usual[:-2]
            gap = np.abs(np.cumsum(core, 1) / np.maximum(core.sum(1, keepdims=True), 1) - np.cumsum(base) / base.sum())
            p_values.append(kolmogorov(np.sqrt(n * m / (n + m)) * gap.max(1)))
            edges = np.asarray(column.edges)
            widths = np.diff(edges)
            evidently.append((gap[:, :-1][:, : len(widths)] * widths).sum(1) / max(column.spread, 1e-3))
        else:
            total = part + usual
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = total * (m / (n + m))[:, None]
                other = total * (n / (n + m))[:, None]
                value = np.nansum((part - expected) ** 2 / expected, 1) + np.nansum((usual - other) ** 2 / other, 1)
            p_values.append(chdtrc(np.maximum((total > 0).sum(1) - 1, 1), value))
        grouped, base = _deciles(column, part, usual)
        psi.append(_psi(grouped, base))
        distance.append(_jensen_shannon(grouped, base))
        if column.kind != "numeric":
            evidently.append(distance[-1])
    p, stability, js, moved = (np.array(x).T for x in (p_values, psi, distance, evidently))
    limit = js[:reference].mean(0) + 3 * js[:reference].std(0)
    count = len(columns)
    # The pooled reference always has more than 1000 rows: Evidently takes its distances.
    found = [
        (p < 0.05).any(1), (stability > 0.2).any(1), (js > 0.1).any(1), (js > limit).any(1), (moved >= 0.1).any(1),
        (moved >= 0.1).mean(1) >= 0.5, (p < 0.05 / count).any(1),
    ]
    return np.array(found).T


def _deciles(column: ColumnBinning, part: Floats, usual: Floats) -> tuple[Floats, Floats]:
    if column.kind != "numeric" or column.bins <= 10:
        return part, usual
    core = usual[:-2]
    middle = (np.cumsum(core) - core / 2) / max(core.sum(), 1)
    group = np.r_[np.minimum((middle * 10).astype(np.int64), 9), 10, 11]
    member = (group[:, None] == np.arange(12)).astype(np.float64)
    return part @ member, usual @ member


def _psi(part: Floats, usual: Floats) -> Floats:
    used = (part.sum(0) + usual) > 0
    p = (usual[used] + 0.5) / (usual[used] + 0.5).sum()
    q = (part[:, used] + 0.5) / (part[:, used] + 0.5).sum(1, keepdims=True)
    found: Floats = ((q - p) * np.log(q / p)).sum(1)
    return found


def _jensen_shannon(part: Floats, usual: Floats) -> Floats:
    p, q = usual / usual.sum(), part / part.sum(1, keepdims=True)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / middle), 0.0) + np.where(q > 0, q * np.log2(q / middle), 0.0)
    found: Floats = np.sqrt(np.maximum(terms.sum(1) / 2, 0.0))
    return found
