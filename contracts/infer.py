"""A contract from reference data: what the data supports, and no more."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from checks.core.profile import Binning, ColumnBinning, ColumnProfile, Profile
from contracts.document import read_yaml
from contracts.model import Contract
from contracts.parse import contract_of

ENOUGH_ROWS = 500
ENOUGH_DAYS = 7
RARE = 20
"""Rows that a category must be seen in before a set is closed."""

CLOSED = 0.0005
"""The Good-Turing estimate of the unseen mass up to which a set of categories is closed."""

OPEN_MOST = 0.1
TOLERANCE = "0.1%"


@dataclass(slots=True)
class Inferred:
    """One property, as it is written: options and rules, each with the evidence as a comment."""

    name: str
    logical_type: str | None
    role: str | None = None
    required: str = ""
    options: list[tuple[str, Any, str]] = field(default_factory=list)
    enum: tuple[list[Any], str] | None = None
    quality: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    note: str = ""


def infer(
    binning: Binning, seen: Profile, types: Mapping[str, str], days: Sequence[Profile] = (), nulls: Mapping[str, int] | None = None,
) -> list[Inferred]:
    """What ``seen`` supports of every column of ``types``.

    Bounds are the range widened by half the span of the central 99%; a category set is closed only where the Good-Turing
    estimate of the unseen mass (the share of values seen once) is near zero; a column is required only where nulls were
    never seen in at least 500 rows. ``days`` are profiles of the parts of ``seen``, of which means and shares of nulls may
    differ; ``nulls`` are the nulls of columns that the profile does not have.
    """
    known = {column.name: column for column in binning.columns}
    found = []
    for name, kind in types.items():
        item = Inferred(name, kind if kind != "null" else None)
        found.append(item)
        spec = known.get(name)
        if spec is None:
            if nulls is not None and seen.rows >= ENOUGH_ROWS and nulls.get(name) == 0:
                item.required = f"no null in {seen.rows:,} rows"
            continue
        item.role = {"score": "score", "prediction": "prediction"}.get(spec.role)
        column = seen.columns[name]
        parts = [d.columns[name] for d in days if d.rows >= 50]
        sizes = [d.rows for d in days if d.rows >= 50]
        _missing(item, column, seen.rows, parts, sizes)
        if spec.kind == "numeric" and kind in ("number", "integer"):
            _bounds(item, spec, column, seen.rows, parts)
        if spec.kind == "category" and kind == "string":
            _categories(item, spec, column)
    return found


def _missing(item: Inferred, seen: ColumnProfile, rows: int, parts: Sequence[ColumnProfile], sizes: Sequence[int]) -> None:
    if rows < ENOUGH_ROWS:
        return
    if not seen.missing:
        item.required = f"no null in {rows:,} rows"
        return
    share = seen.missing / rows
    worst = max([share, *(p.missing / n for p, n in zip(parts, sizes, strict=True))])
    size = min(sizes, default=200)
    most = 100 * (1.5 * worst + 4 * math.sqrt(worst * (1 - min(worst, 1)) / size) + 0.005)
    if most < 80:
        rule = {"metric": "nullValues", "mustBeLessThan": round(most, 2), "unit": "percent", "dimension": "completeness"}
        item.quality.append((rule, f"{share:.2%} null, at most {worst:.2%} in a day"))


def _bounds(item: Inferred, spec: ColumnBinning, seen: ColumnProfile, rows: int, parts: Sequence[ColumnProfile]) -> None:
    if seen.filled < ENOUGH_ROWS or len(spec.edges) < 2:
        return
    span = spec.edges[-1] - spec.edges[0]
    low, high = _rounded(seen.minimum - span / 2, span), _rounded(seen.maximum + span / 2, span)
    if seen.minimum == 0:  # what begins at nought is a count, a length, an amount
        low = 0
    evidence = f"{seen.minimum:.6g} to {seen.maximum:.6g} seen, 99% within {spec.edges[0]:.6g} to {spec.edges[-1]:.6g}"
    if seen.nans:
        quoted = '"' + item.name.replace('"', '""') + '"'
        text = f"isnan({quoted}) OR ({quoted} >= {low!r} AND {quoted} <= {high!r})"
        rule = {"type": "custom", "engine": "driftd", "implementation": text, "dimension": "conformity"}
        item.quality.append((rule, f"{evidence}; {seen.nans:,} NaN"))
    else:
        item.options += [("minimum", low, evidence), ("maximum", high, "")]
    mean, deviation = seen.mean(), seen.deviation(spec.center)
    if mean is None or not deviation:
        return
    means = [m for p in parts if p.filled >= 50 and (m := p.mean()) is not None]
    if len(means) >= ENOUGH_DAYS:
        reach = (max(means) - min(means)) / 4 + 0.1 * deviation
        ends, what = (min(means) - reach, max(means) + reach), f"{min(means):.6g} to {max(means):.6g} on {len(means)} days"
    else:
        ends, what = (mean - 0.6 * deviation, mean + 0.6 * deviation), f"{mean:.6g}, standard deviation {deviation:.6g}"
    bounds = [_rounded(end, deviation) for end in ends]
    query = "SELECT AVG({property}) FROM {object}"
    item.quality.append(({"type": "sql", "query": query, "mustBeBetween": bounds, "dimension": "conformity", "severity": "warning"}, f"mean {what}"))


def _rounded(value: float, scale: float) -> float | int:
    """A bound with as many digits as its scale deserves."""
    digits = max(0, 3 - math.floor(math.log10(abs(scale)))) if scale > 0 else 6
    found = round(value, digits)
    return int(found) if found == int(found) else found


def _categories(item: Inferred, spec: ColumnBinning, seen: ColumnProfile) -> None:
    if seen.filled < ENOUGH_ROWS or spec.private or not spec.categories:
        return
    shown = [c for c in spec.categories if not c.startswith("#")]
    hidden = sum(int(n) for c, n in zip(spec.categories, seen.counts, strict=True) if c.startswith("#"))
    once = int((seen.counts == 1).sum())
    total = seen.filled + seen.other
    if not hidden and not seen.other and once / total < CLOSED and int(seen.counts[seen.counts > 0].min()) >= RARE:
        item.enum = list(spec.categories), f"{len(shown)} values, the rarest in {int(seen.counts[seen.counts > 0].min()):,} rows"
        return
    unseen = (hidden + seen.other + once) / total
    if shown and unseen < OPEN_MOST:
        most = round(100 * (2 * unseen + 0.02), 2)
        rule: dict[str, Any] = {
            "metric": "invalidValues", "arguments": {"validValues": [*shown, *([None] if seen.missing else [])]}, "mustBeLessThan": most,
            "unit": "percent", "dimension": "conformity",
        }
        item.quality.append((rule, f"{unseen:.2%} of rows hold rare values, which are not listed"))


def to_yaml(
    found: Sequence[Inferred], *, identifier: str, name: str, rows: int, source: str = "", timestamp: str | None = None, comments: bool = True,
) -> str:
    """The document: ODCS v3.1, or v3.2 where a set of values is closed."""
    version = "v3.2.0" if any(item.enum for item in found) else "v3.1.0"
    lines = [f"# Inferred from {rows:,} rows{' of ' + source if source else ''}. Read every rule before you rely on it: it says what was seen,",
             "# not what is meant. Bounds are the range widened by half the span of the central 99%."] if comments else []
    lines += [
        f"apiVersion: {version}", "kind: DataContract", f"id: {json.dumps(identifier)}", f"name: {json.dumps(name)}", "version: 0.1.0", "status: draft", "schema:",
        f"  - name: {json.dumps(name)}", "    logicalType: object", "    properties:",
    ]
    for item in found:
        lines += _property(item, timestamp, comments)
    lines += ["    quality:", "      - {metric: rowCount, mustBeGreaterThan: 0, dimension: completeness}"]
    return "\n".join(lines) + "\n"


def _property(item: Inferred, timestamp: str | None, comments: bool) -> list[str]:
    def said(text: str) -> str:
        return f"  # {text}" if comments and text else ""

    lines = [f"      - name: {_text(item.name)}"]
    if item.logical_type:
        lines.append(f"        logicalType: {item.logical_type}")
    if item.required:
        lines.append(f"        required: true{said(item.required)}")
    if item.options:
        lines.append("        logicalTypeOptions:")
        lines += [f"          {key}: {_text(value)}{said(note)}" for key, value, note in item.options]
    if item.enum:
        lines.append(f"        enum:{said(item.enum[1])}")
        lines += [f"          - value: {_text(value)}" for value in item.enum[0]]
    role = "timestamp" if item.name == timestamp else item.role
    custom = [("role", role)] if role else []
    if item.options or item.enum:
        custom.append(("tolerance", TOLERANCE))
    if custom:
        lines.append("        customProperties:")
        lines += [f"          - {{property: {key}, value: {_text(value)}}}" for key, value in custom]
    if item.quality:
        lines.append("        quality:")
        for rule, note in item.quality:
            lines += [f"          # {note}"] if comments and note else []
            for index, (key, value) in enumerate(rule.items()):
                lines.append(f"          {'- ' if not index else '  '}{key}: {_text(value)}")
    return lines


def _text(value: Any) -> str:
    """A value in flow style; JSON is YAML. Plain words stay plain."""
    if isinstance(value, str) and value.isidentifier() and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n"):
        return value
    return json.dumps(value, ensure_ascii=False)


def infer_contract(binning: Binning, reference: Profile, types: Mapping[str, str]) -> Contract:
    """The contract of a monitor that has none: what its reference supports for good; its rules only warn.

    Means and shares of nulls, which drift judges, and columns that are no features, are left out.
    """
    kept = [
        replace(item, quality=[rule for rule in item.quality if rule[0].get("type") == "custom"])
        for item in infer(binning, reference, {c.name: types[c.name] for c in binning.columns if c.role in ROLES and c.name in types})
    ]
    text = to_yaml(kept, identifier="inferred", name="inferred", rows=reference.rows, comments=False)
    contract = contract_of(read_yaml(text, "inferred", times_as_text=True), text, "inferred")
    rules = tuple(rule for rule in contract.rules if rule.kind != "rowCount")
    return replace(contract, version="0", inferred=True, rules=rules).limited_to_warnings()


ROLES = ("feature", "score", "prediction")
