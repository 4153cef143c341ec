"""Structural breaks: a column that is no longer what it was, said at once and outside the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from checks.core.profile import Binning, ColumnBinning, ColumnProfile, Profile
from checks.core.units import explain

LEAST_ROWS = 50
LEAST_WINDOWS = 5
UNIT_SIGMAS = 6.0


@dataclass(frozen=True, slots=True)
class StructuralBreak:
    """One break: ``kind`` is mostly_missing, mostly_unseen, beyond_range, constant or unit_change."""

    column: str
    kind: str
    sentence: str
    rows: int


def find_breaks(binning: Binning, window: Profile, baseline: Sequence[Profile]) -> list[StructuralBreak]:
    """The breaks of ``window`` against ``baseline`` windows; none where either is too small to say."""
    if window.rows < LEAST_ROWS or not baseline:
        return []
    found = []
    for column in binning.columns:
        if column.role in ("latency", "status"):
            continue
        past = [p.columns[column.name] for p in baseline if p.rows]
        broken = _column(column, window.columns[column.name], past, window.rows) if past else None
        if broken is not None:
            found.append(broken)
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _column(column: ColumnBinning, now: ColumnProfile, past: Sequence[ColumnProfile], rows: int) -> StructuralBreak | None:
    total = sum(p.rows for p in past) if column.kind != "text" else 0
    usual_missing = _share(sum(p.missing for p in past), total) if total else 0.0
    missing = _share(now.missing, rows)
    most = max(_share(p.missing, p.rows) for p in past) if total else 0.0
    if missing > 0.5 and missing > 2 * most:
        return StructuralBreak(
            column.name, "mostly_missing", f"{column.name} is missing in {missing:.0%} of rows (usual {usual_missing:.1%})", rows
        )
    if column.kind == "category":
        unseen, usual = _share(now.other, rows), _share(sum(p.other for p in past), total)
        if unseen > 0.5 and usual < 0.25:
            return StructuralBreak(
                column.name, "mostly_unseen",
                f"{column.name} has values never seen in the reference in {unseen:.0%} of rows (usual {usual:.1%})", rows,
            )
    if now.filled < LEAST_ROWS:
        return None
    if column.kind == "numeric":
        return _numeric(column, now, past, rows)
    alone = column.kind == "category" and (now.counts > 0).sum() == 1 and not now.other
    if alone and all((p.counts > 0).sum() > 1 for p in past):
        only = column.categories[int(now.counts.argmax())]
        shown = "one value" if column.private or only.startswith("#") else repr(only)
        return StructuralBreak(column.name, "constant", f"{column.name} is {shown} in every row; it always varied", rows)
    return None


def _numeric(column: ColumnBinning, now: ColumnProfile, past: Sequence[ColumnProfile], rows: int) -> StructuralBreak | None:
    if now.minimum == now.maximum and all(p.filled > 1 and p.minimum < p.maximum for p in past):
        return StructuralBreak(
            column.name, "constant", f"{column.name} is {now.minimum:g} in every row; it always varied", rows
        )
    unit = _unit_change(column, now, past)
    if unit is not None:
        return StructuralBreak(column.name, "unit_change", unit, rows)
    highest, lowest = max(p.maximum for p in past), min(p.minimum for p in past)
    reach = (highest - lowest) / 2
    for beyond, edge, word in ((now.minimum > highest + reach, highest, "above"), (now.maximum < lowest - reach, lowest, "below")):
        if beyond and len(past) >= LEAST_WINDOWS:
            return StructuralBreak(
                column.name, "beyond_range", f"every value of {column.name} is {word} {edge:g}, beyond all that was ever seen", rows
            )
    return None


def _unit_change(column: ColumnBinning, now: ColumnProfile, past: Sequence[ColumnProfile]) -> str | None:
    """A named conversion that brings location and scale back to the usual, where both are far from it as they are."""
    means = [m for p in past if (m := p.mean()) is not None and p.filled >= LEAST_ROWS]
    scales = [s for p in past if (s := p.deviation(column.center)) is not None and p.filled >= LEAST_ROWS]
    mean, scale = now.mean(), now.deviation(column.center)
    if column.role != "feature" or len(means) < LEAST_WINDOWS or mean is None or scale is None:
        return None
    usual = sum(means) / len(means)
    wobble = math.sqrt(sum((m - usual) ** 2 for m in means) / len(means))
    typical = sum(scales) / len(scales)
    wobble = max(wobble, 0.02 * typical, 1e-12)
    if abs(mean - usual) < UNIT_SIGMAS * wobble or typical <= 0:
        return None
    for conversion in explain(mean, scale, usual, typical, wobble):
        if _same_zeros(column, now, past, conversion.offset):
            back = mean * conversion.factor + conversion.offset
            return f"{column.name} looks like {conversion.name}: mean {mean:.4g}, usual {usual:.4g}; converted {back:.4g}"
    return None


def _same_zeros(column: ColumnBinning, now: ColumnProfile, past: Sequence[ColumnProfile], offset: float) -> bool:
    """Whether a column that is often zero is so still: a factor leaves zeros alone, a rainy day does not."""
    place = sum(edge <= 0.0 for edge in column.edges)
    usual = _share(sum(int(p.counts[place]) for p in past), sum(p.filled for p in past))
    return bool(usual <= 0.2 or offset or abs(_share(int(now.counts[place]), now.filled) - usual) < 0.1)
