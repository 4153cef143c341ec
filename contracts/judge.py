"""From the counts of one scan to violations: every rule passes, is violated, or is said not to have run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from checks.core.expression import Expression
from checks.core.result import Verdict
from contracts.model import Contract, ContractOutcome, NotEvaluated, Observation, Rule, Violation
from contracts.rules import RULES


@dataclass(frozen=True, slots=True)
class Bound:
    """A contract bound to the columns of the data: predicates to count, and what cannot run."""

    contract: Contract
    predicates: Mapping[str, Expression]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def bind(contract: Contract, types: Mapping[str, str], ignored: Collection[str] = ()) -> Bound:
    """The predicates of ``contract`` over data whose columns have the logical ``types``.

    A column in ``ignored`` is no extra column.
    """
    predicates: dict[str, Expression] = {}
    for rule in contract.rules:
        if rule.not_evaluated or rule.manual or (rule.column is not None and rule.column not in types):
            continue
        if _blocked(rule, contract, types):
            continue
        predicate = RULES[rule.kind]().predicate(rule, types.get(rule.column or "", ""))
        if predicate is not None:
            predicates[rule.id] = predicate
    promised = {column.name for column in contract.columns}
    missing = tuple(column.name for column in contract.columns if column.name not in types)
    return Bound(contract, predicates, missing, tuple(name for name in types if name not in promised and name not in ignored))


def _blocked(rule: Rule, contract: Contract, types: Mapping[str, str]) -> str:
    """Why a value rule has no meaning on the type that the column really has, or empty."""
    actual = types.get(rule.column or "", "")
    if rule.kind in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        wanted = "number" if isinstance(rule.argument, (int, float)) else "time"
        numeric, timed = actual in ("number", "integer"), actual in ("date", "timestamp", "time")
        if (wanted == "number" and not numeric) or (wanted == "time" and not timed):
            return f"blocked: the column is of type {actual}"
    if rule.kind in ("pattern", "minLength", "maxLength") and actual != "string":
        return f"blocked: the column is of type {actual}"
    if rule.kind == "enum":
        texts = any(isinstance(value, str) for value in rule.argument)
        if texts and actual != "string":
            return f"blocked: the column is of type {actual}"
    return ""


def judge(bound: Bound, counts: Mapping[str, int], seen: Observation, failed: Mapping[str, str] | None = None) -> ContractOutcome:
    """Judge every rule; ``failed`` says why a predicate could not be counted."""
    passed: list[str] = []
    violations: list[Violation] = []
    skipped: list[NotEvaluated] = []
    for name in bound.missing:
        line = next(c.line for c in bound.contract.columns if c.name == name)
        rule = Rule(f"{name}.missingColumn", "missingColumn", name, _gravest(bound.contract), None, line)
        violations.append(Violation(rule, seen.rows, seen.rows, {}, rule.severity, f"the data has no column {name!r}"))
    for name in bound.extra:
        severity = Verdict.FAIL if bound.contract.strict_columns else Verdict.WARN
        if bound.contract.inferred or not bound.contract.columns:
            continue
        rule = Rule(f"{name}.extraColumn", "extraColumn", name, severity, None, 1)
        violations.append(Violation(rule, seen.rows, seen.rows, {}, severity, f"the contract does not know the column {name!r}"))
    for rule in bound.contract.rules:
        reason = _not_evaluated(bound, rule, seen, failed or {})
        if reason:
            skipped.append(NotEvaluated(rule, reason, error=rule.id in (failed or {})))
            continue
        try:
            broken = RULES[rule.kind]().judge(rule, replace(seen, bad=counts.get(rule.id)))
        except LookupError as error:
            skipped.append(NotEvaluated(rule, str(error.args[0]) if error.args else "cannot be known"))
            continue
        if broken is None:
            passed.append(rule.id)
        else:
            bad, observed, why = broken
            violations.append(Violation(rule, bad, seen.rows, observed, rule.severity, why))
    return ContractOutcome(tuple(passed), tuple(violations), tuple(skipped))


def _gravest(contract: Contract) -> Verdict:
    return Verdict.WARN if contract.inferred else Verdict.FAIL


def _not_evaluated(bound: Bound, rule: Rule, seen: Observation, failed: Mapping[str, str]) -> str:
    if rule.manual:
        return "manual: for a person to check"
    if rule.not_evaluated:
        return rule.not_evaluated
    if rule.column is not None and rule.column not in seen.types:
        return "blocked by missing column"
    if rule.id in failed:
        return f"error: {failed[rule.id]}"
    if seen.rows == 0 and rule.kind != "rowCount":
        return "the window is empty"
    return _blocked(rule, bound.contract, seen.types)


def as_json(violation: Violation) -> dict[str, Any]:
    """A violation as the object that ``driftd check --json`` prints."""
    rule = violation.rule
    return {
        "rule": rule.id, "column": rule.column, "kind": rule.kind,
        "severity": "warning" if rule.severity is Verdict.WARN else "error", "verdict": str(violation.verdict),
        "bad": violation.bad, "rows": violation.rows, "fraction": round(violation.fraction, 6),
        "observed": dict(violation.observed), "threshold": rule.threshold, "samples": [], "line": rule.line,
        "reason": violation.reason,
    }
