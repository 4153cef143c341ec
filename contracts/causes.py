"""What a violation most likely comes from: a unit, a renamed category, a zone, a type, a batch delivered twice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.core.units import likely
from contracts.model import Violation
from contracts.rules.logical_type import PARSES

LEAST_ROWS = 20
"""Rows that must hold a text before it is named."""

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "rowExpression", "invalidValues", "multipleOf", "logicalType", "sql")
SETS = ("enum", "invalidValues", "pattern")
TIMES = ("freshness", "latency", "retention", *BOUNDS[:4])
HALF_HOUR = 1800.0


@dataclass(frozen=True, slots=True)
class Clues:
    """What is known beside the violation.

    ``usual`` and ``now`` are the column's profiles under ``binning``; ``top`` the most frequent offending values with
    their rows; ``listed`` the values that are known; ``was`` and ``types`` the type before and now; ``lead`` by how many
    seconds, in the median, the offending times lie off the event time; ``plain`` says that values may be named.
    """

    binning: ColumnBinning | None = None
    usual: ColumnProfile | None = None
    now: ColumnProfile | None = None
    top: Sequence[tuple[Any, int]] = ()
    listed: Sequence[Any] = ()
    was: str | None = None
    actual: str | None = None
    lead: tuple[float, float] | None = None
    redelivered: str | None = None
    plain: bool = True
    units: Mapping[str, str] = field(default_factory=dict)


def suspect(violation: Violation, clues: Clues) -> dict[str, Any] | None:
    """``{"kind", "sentence"}`` of the likeliest cause, or None."""
    kind = violation.rule.kind
    if clues.redelivered is not None and kind in ("unique", "uniqueKey", "duplicateValues", "keyHistory"):
        return {"kind": "redelivered", "sentence": clues.redelivered}
    if kind == "logicalType" or (kind == "physicalType" and clues.actual):
        found = _type_change(violation, clues)
        if found is not None:
            return found
    if kind in BOUNDS:
        found = _unit(violation, clues)
        if found is not None:
            return found
    if kind in SETS:
        found = _renamed(violation, clues)
        if found is not None:
            return found
    if kind in TIMES and clues.lead is not None:
        return _zone(clues.lead)
    return None


def _unit(violation: Violation, clues: Clues) -> dict[str, Any] | None:
    now, usual, binning = clues.now, clues.usual, clues.binning
    if now is None or usual is None or binning is None or now.filled < LEAST_ROWS or usual.filled < LEAST_ROWS:
        return None
    mean, before = now.mean(), usual.mean()
    scale, typical = now.deviation(binning.center), usual.deviation(binning.center)
    if mean is None or before is None or not scale or not typical:
        return None
    wobble = max(0.3 * typical, abs(before) * 1e-9)
    for conversion in likely(mean, scale, before, typical, wobble):
        back = mean * conversion.factor + conversion.offset
        return {
            "kind": "unit", "sentence": f"{violation.rule.column} looks like {conversion.name}: mean {mean:.4g}, usual {before:.4g}; "
            f"converted {back:.4g}",
        }
    return None


def _renamed(violation: Violation, clues: Clues) -> dict[str, Any] | None:
    """The most frequent unlisted text, where it is a listed one but for case, spaces or one letter."""
    known = [str(v) for v in clues.listed if v is not None]
    for value, rows in clues.top:
        if not isinstance(value, str):
            continue
        plain = _bare(value)
        for other in known:
            how = (
                "spaces" if value.split() == other.split() or value.strip() == other.strip() else "case" if value.casefold() == other.casefold()
                else "spelling" if plain == _bare(other) else "one letter" if one_edit(value, other) and min(len(value), len(other)) > 2 else ""
            )
            if how and value != other:
                named = f": {value!r} in {rows:,} rows, {other!r} is listed" if clues.plain and rows >= LEAST_ROWS else f", in {rows:,} rows"
                return {"kind": "renamed", "sentence": f"{violation.rule.column} has a value that differs from a known one by {how}{named}"}
    return None


def _bare(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def one_edit(left: str, right: str) -> bool:
    """Whether one inserted, dropped or changed letter, or two neighbours turned round, makes one text the other."""
    if abs(len(left) - len(right)) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    rest, other = left[at:], right[at:]
    return rest[1:] == other[1:] or rest[1:] == other or rest == other[1:] or (rest[:2] == other[1::-1] and rest[2:] == other[2:])


def _type_change(violation: Violation, clues: Clues) -> dict[str, Any] | None:
    wanted, actual = str(violation.rule.argument), clues.actual or ""
    column = violation.rule.column
    if actual == "string" and wanted in PARSES:
        texts = [(str(v), n) for v, n in clues.top if isinstance(v, str)]
        total = sum(n for _, n in texts)
        fit = sum(n for text, n in texts if re.search(PARSES[wanted], text))
        if total and fit == total:
            return {"kind": "type", "sentence": f"{column} holds values of type {wanted}, written as texts"}
    if actual and clues.was and actual != clues.was:
        return {"kind": "type", "sentence": f"{column} was of type {clues.was} in the reference and is of type {actual} now"}
    return None


def _zone(lead: tuple[float, float]) -> dict[str, Any] | None:
    """A shift by whole half hours that all offending times share."""
    middle, spread = lead
    steps = round(middle / HALF_HOUR)
    if steps and abs(steps) <= 28 and abs(middle - steps * HALF_HOUR) < 300 and spread < 600:
        return {"kind": "zone", "sentence": f"the times are off by {steps / 2:+g} h: a time zone, as of local times logged as UTC"}
    return None


def redelivered(now: Mapping[str, ColumnProfile], rows: int, earlier: Sequence[tuple[str, Mapping[str, ColumnProfile], int]]) -> str | None:
    """The earlier window that this one repeats: every column has the very same counts and sums."""
    if rows < LEAST_ROWS:
        return None
    for window, columns, size in reversed(earlier):
        if size == rows and columns and all(
            name in columns and (column.counts == columns[name].counts).all() and column.total == columns[name].total
            for name, column in now.items()
        ):
            return f"the window repeats {window}: the same rows, column by column: a re-delivered batch"
    return None
