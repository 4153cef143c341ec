"""Training and serving compared, column by column: what a model was taught on and what it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from checks.core.binning import Binning, ColumnBinning
from checks.core.column import ColumnProfile
from checks.core.interval import wilson
from checks.core.profile import Profile
from checks.core.result import Verdict
from checks.core.units import likely

LEAST_ROWS = 50
SHARE_POINTS = 0.02
OPEN = 0.1
"""Share of values beyond the listed ones from which on a column is open."""

SHIFT = 0.5
"""Standard deviations by which a mean may differ, beyond how far single training days did."""


@dataclass(frozen=True, slots=True)
class Skew:
    """One difference: ``kind`` is missing, new, type, unit, nulls, unseen, shift or scale."""

    column: str
    kind: str
    verdict: Verdict
    sentence: str


def skews(
    binning: Binning, training: Profile, serving: Profile, taught: Mapping[str, str], served: Mapping[str, str],
    days: Sequence[Profile] = (), skip: Collection[str] = (),
) -> list[Skew]:
    """Every difference that noise does not explain, in the order of the training columns."""
    found = []
    known = {column.name: column for column in binning.columns}
    for name, kind in taught.items():
        if name in skip:
            continue
        actual = served.get(name)
        if actual is None:
            found.append(Skew(name, "missing", Verdict.FAIL, f"{name} was there in training and is not served"))
        elif actual not in (kind, "null") and kind != "null" and {kind, actual} != {"integer", "number"}:
            found.append(Skew(name, "type", Verdict.FAIL, f"{name} was of type {kind} in training and is served as {actual}"))
        elif name in known and serving.rows >= LEAST_ROWS:
            parts = [d.columns[name] for d in days if d.rows >= LEAST_ROWS]
            found += _column(known[name], training.columns[name], serving.columns[name], training.rows, serving.rows, parts)
    found += [
        Skew(name, "new", Verdict.WARN, f"{name} is served and was not there in training") for name in served if name not in taught and name not in skip
    ]
    return found


def _column(
    spec: ColumnBinning, then: ColumnProfile, now: ColumnProfile, rows_then: int, rows_now: int, parts: Sequence[ColumnProfile],
) -> list[Skew]:
    days = [p.missing / p.rows for p in parts if p.rows and spec.kind != "text"]
    found = _share(spec.name, "nulls", "missing", then.missing, rows_then, now.missing, rows_now)
    if days and min(days) <= now.missing / rows_now <= max(days):  # as single days of training were
        found = []
    closed = then.other <= OPEN * max(rows_then, 1)  # of a column with ever new values nothing new is unusual
    if spec.kind == "category" and now.missing != rows_now and closed:
        found += _share(spec.name, "unseen", "of a value that training did not have", then.other, rows_then, now.other, rows_now)
    if spec.kind == "numeric":
        found += _numbers(spec, then, now, parts)
    return found


def _share(name: str, kind: str, words: str, bad_then: int, rows_then: int, bad_now: int, rows_now: int) -> list[Skew]:
    if not rows_then or not rows_now:
        return []
    before, after = bad_then / rows_then, bad_now / rows_now
    low, high = wilson(min(bad_now, rows_now), rows_now, 3.0)
    if abs(after - before) <= SHARE_POINTS or low <= before <= high:
        return []
    return [Skew(name, kind, Verdict.WARN, f"{name} is {words} in {after:.1%} of the served rows, {before:.1%} in training")]


def _numbers(spec: ColumnBinning, then: ColumnProfile, now: ColumnProfile, parts: Sequence[ColumnProfile]) -> list[Skew]:
    usual, mean = then.mean(), now.mean()
    typical, scale = then.deviation(spec.center), now.deviation(spec.center)
    if usual is None or mean is None or not typical or scale is None or now.filled < LEAST_ROWS:
        return []
    means = [m for p in parts if p.filled >= LEAST_ROWS and (m := p.mean()) is not None]
    wobble = max((abs(m - usual) for m in means), default=0.0)
    away = abs(mean - usual)
    if away <= max(SHIFT * typical, 1.5 * wobble) and 0.4 < scale / typical < 2.5:
        return []
    for conversion in likely(mean, scale, usual, typical, max(0.3 * typical, wobble / 3)):
        if conversion.offset or not 0.3 < scale / typical < 3:
            return [Skew(spec.name, "unit", Verdict.FAIL, f"{spec.name} looks like {conversion.name}: mean {mean:.4g}, in training {usual:.4g}")]
    if away > max(SHIFT * typical, 1.5 * wobble):
        return [Skew(spec.name, "shift", Verdict.WARN, f"{spec.name} has mean {mean:.4g}, in training {usual:.4g}: {away / typical:.1f} standard deviations")]
    return [Skew(spec.name, "scale", Verdict.WARN, f"{spec.name} has standard deviation {scale:.4g}, in training {typical:.4g}")]
