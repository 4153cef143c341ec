"""A contract from reference data, for monitors that have none yet; its rules only warn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from checks.core.profile import Binning, ColumnBinning, ColumnProfile, Profile
from checks.core.result import Verdict
from contracts.model import Column, Contract, Rule

ENOUGH_ROWS = 500


def infer_contract(binning: Binning, reference: Profile, types: Mapping[str, str]) -> Contract:
    """Types, required columns, widened bounds and closed category sets that ``reference`` supports.

    Bounds are the reference's range widened by half the span of its central 99%; a category set is closed only where
    the Good-Turing estimate of the unseen mass (the share of categories seen once) is near zero; a column is required
    only where nulls were never seen in at least 500 rows.
    """
    rules: list[Rule] = []
    columns = []
    for spec in binning.columns:
        if spec.role not in ("feature", "score", "prediction") or spec.name not in types:
            continue
        columns.append(Column(spec.name, types[spec.name], None, 1))
        rules += _column(spec, reference.columns[spec.name], reference.rows, types[spec.name])
    text = repr([(rule.id, rule.argument) for rule in rules])
    return Contract(
        id="inferred", version="0", hash="sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16], object="inferred",
        columns=tuple(columns), rules=tuple(rules), inferred=True,
    )


def _column(spec: ColumnBinning, seen: ColumnProfile, rows: int, logical_type: str) -> list[Rule]:
    def rule(kind: str, argument: object) -> Rule:
        return Rule(f"{spec.name}.{kind}", kind, spec.name, Verdict.WARN, argument, 1)

    found = [rule("logicalType", logical_type)] if logical_type != "null" else []
    if rows >= ENOUGH_ROWS and not seen.missing:
        found.append(rule("required", True))
    if spec.kind == "numeric" and seen.filled >= ENOUGH_ROWS and len(spec.edges) > 1:
        span = spec.edges[-1] - spec.edges[0]
        found.append(rule("minimum", round(seen.minimum - span / 2, 6)))
        found.append(rule("maximum", round(seen.maximum + span / 2, 6)))
    private = spec.private or any(category.startswith("#") for category in spec.categories)
    if spec.kind == "category" and logical_type == "string" and not private and not seen.other and seen.filled >= ENOUGH_ROWS:
        once = int((seen.counts == 1).sum())
        if once / seen.filled < 0.0005 and int(seen.counts[seen.counts > 0].min()) >= 20:
            found.append(rule("enum", list(spec.categories)))
    return found
