"""From the counts of one scan to violations: every rule passes, is violated, or is said not to have run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from checks.core.expression import And, Column, Expression, columns, never
from checks.core.result import Verdict, roll_up
from contracts.model import Contract, ContractOutcome, Data, NotEvaluated, Observation, Rule, Violation
from contracts.query import Query
from contracts.rules import RULES
from contracts.rules.sql import mentioned

ODD = (ArithmeticError, ValueError, TypeError, AttributeError)
"""What a rule may raise over an argument that makes no sense."""

SCOPE = "|where"
"""What is appended to a rule's id to name the count of the rows that it is about."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A contract bound to the columns of the data: predicates to count, queries to ask, and what cannot run.

    ``blocked`` gives the reason by rule id; ``missing`` and ``extra`` are columns.
    """

    contract: Contract
    data: Data
    predicates: Mapping[str, Expression] = field(default_factory=dict)
    queries: Mapping[str, Query] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules by id."""
        return {rule.id: rule for rule in self.contract.rules}


def bind(contract: Contract, data: Data, ignored: Collection[str] = ()) -> Bound:
    """The predicates and queries of ``contract`` over ``data``; a column in ``ignored`` is no extra column."""
    predicates: dict[str, Expression] = {}
    queries: dict[str, Query] = {}
    blocked: dict[str, str] = {}
    for rule in contract.rules:
        if rule.not_evaluated or rule.manual:
            continue
        try:
            predicate, query = _bound(rule, contract, data)
        except LookupError as error:
            blocked[rule.id] = str(error.args[0]) if error.args else "it does not bind"
            continue
        except ODD as error:  # an argument that no check foresaw: this rule alone is in error
            blocked[rule.id] = f"error: {type(error).__name__}: {error}"
            continue
        if query is not None:
            queries[rule.id] = query
        if predicate is not None:
            predicates[rule.id] = predicate if rule.where is None else And((rule.where, predicate))
        if rule.where is not None:
            predicates[rule.id + SCOPE] = rule.where
    top = [c for c in contract.columns if c.parent is None]
    missing = tuple(c.name for c in contract.columns if c.name not in data.types and _expected(c.name, c.parent, c.role, data))
    promised = {c.name for c in top}
    extra = tuple(
        name for name in data.types if name not in promised and name not in ignored and "|" not in name and not _inside(name, promised)
    )
    return Bound(contract, data, predicates, queries, blocked, missing, extra)


def _inside(name: str, promised: Collection[str]) -> bool:
    return any(name.startswith((f"{p}.", f"{p}[")) for p in promised)


def _expected(name: str, parent: str | None, role: str | None, data: Data) -> bool:
    """Whether the lack of a column is one of its own: labels come from their own source, a parent tells of its children."""
    return role != "label" and (parent is None or (parent in data.types and data.types[parent] in ("object", "array", "map")))


def _bound(rule: Rule, contract: Contract, data: Data) -> tuple[Expression | None, Query | None]:
    names = dict.fromkeys([*([rule.column] if rule.column else []), *rule.columns])
    for name in names:
        if name in data.types or (rule.kind in ("freshness", "latency", "frequency", "retention")):
            continue
        found = contract.column(name)
        if found is not None and found.role == "label":
            raise LookupError("labels come from their own source, later than the rows")
        if found is not None and found.parent in data.types and data.types[found.parent or ""] not in ("object", "array", "map", "null"):
            raise LookupError(f"blocked: {found.parent} is of type {data.types[found.parent or '']}")
        raise LookupError("blocked by missing column" if name == rule.column else f"blocked by missing column {name}")
    if rule.where is not None:
        for name in sorted(columns(rule.where)):
            if name not in data.types:
                raise LookupError(f"where: blocked by missing column {name}")
    if rule.kind == "sql":
        lost = sorted({c.name for c in contract.columns if c.parent is None and c.name not in data.types} & mentioned(str(rule.argument), rule.column))
        if lost:
            raise LookupError(f"blocked by missing column {lost[0]}")
    plugin = RULES[rule.kind]
    kind = plugin()
    if rule.column is not None and plugin.applies is not None:
        actual = data.types.get(rule.column, "")
        if actual == "null":  # no value can break it
            return never(Column(rule.column)), None
        if actual not in plugin.applies:
            raise LookupError(f"blocked: the column is of type {actual}")
    return kind.predicate(rule, data), kind.query(rule, data)


def judge(
    bound: Bound, counts: Mapping[str, int], seen: Observation, failed: Mapping[str, str] | None = None,
    answers: Mapping[str, Mapping[str, Any]] | None = None, apart: Mapping[str, str] | None = None,
) -> ContractOutcome:
    """Judge every rule. ``failed`` says why a predicate or query could not be counted, ``answers`` are those of queries,
    ``apart`` names rules that were counted apart, with why."""
    passed: list[str] = []
    skipped: list[NotEvaluated] = []
    violations = _columns(bound, seen)
    failed, answers = failed or {}, answers or {}
    for rule in bound.contract.rules:
        reason = _skipped(bound, rule, seen, failed)
        if reason is not None:
            skipped.append(reason)
            continue
        answer = dict(answers.get(rule.id, {}))
        if rule.column and rule.column in bound.data.natives:
            answer.setdefault("native", bound.data.natives[rule.column])
        own = replace(
            seen, bad=counts.get(rule.id) if rule.id in bound.predicates else None, scope=counts.get(rule.id + SCOPE), answer=answer,
        )
        if own.scope == 0 and RULES[rule.kind].on_rows:
            skipped.append(NotEvaluated(rule, "where selects no row", explained=True))
            continue
        try:
            broken = RULES[rule.kind]().judge(rule, own)
        except (LookupError, *ODD) as error:
            text = str(error.args[0]) if error.args else "it cannot be known"
            skipped.append(NotEvaluated(rule, text if isinstance(error, LookupError) else f"error: {text}", not isinstance(error, LookupError)))
            continue
        if broken is None:
            passed.append(rule.id)
        else:
            bad, observed, why = broken
            violations.append(Violation(rule, bad, own.considered, observed, rule.severity, why))
    return ContractOutcome(tuple(passed), tuple(violations), tuple(skipped), dict(apart or {}))


def _columns(bound: Bound, seen: Observation) -> list[Violation]:
    """Columns that are missing, and those that the contract does not know."""
    contract, found = bound.contract, []
    gravest = Verdict.WARN if contract.inferred else Verdict.FAIL
    for name in bound.missing:
        line = next(c.line for c in contract.columns if c.name == name)
        rule = Rule(f"{name}.missingColumn", "missingColumn", name, gravest, None, line, "completeness")
        found.append(Violation(rule, seen.rows, seen.rows, {}, rule.severity, f"the data has no column {name!r}"))
    if contract.inferred or not contract.columns:
        return found
    for name in bound.extra:
        severity = Verdict.FAIL if contract.strict_columns else Verdict.WARN
        rule = Rule(f"{name}.extraColumn", "extraColumn", name, severity, None, 1, "conformity")
        found.append(Violation(rule, seen.rows, seen.rows, {}, severity, f"the contract does not know the column {name!r}"))
    return found


def _skipped(bound: Bound, rule: Rule, seen: Observation, failed: Mapping[str, str]) -> NotEvaluated | None:
    if rule.manual:
        return NotEvaluated(rule, "manual: for a person to check", explained=True)
    if rule.not_evaluated:
        return NotEvaluated(rule, rule.not_evaluated, explained=rule.elsewhere)
    if seen.rows == 0 and RULES[rule.kind].on_rows:
        return NotEvaluated(rule, "the window is empty", explained=True)
    if rule.id in bound.blocked:
        reason = bound.blocked[rule.id]
        if reason.startswith("error: "):
            return NotEvaluated(rule, reason, error=True)
        told = "missing column" in reason or (reason.startswith("blocked: the column is of type") and _typed(bound, rule))
        return NotEvaluated(rule, reason, explained=told or reason.startswith("labels come"))
    for name in (rule.id, rule.id + SCOPE):
        if name in failed:
            return NotEvaluated(rule, f"error: {failed[name]}", error=True)
    return None


def _typed(bound: Bound, rule: Rule) -> bool:
    """Whether the type of the rule's column is promised, so that a wrong one is a violation of its own."""
    found = bound.contract.column(rule.column or "")
    return found is not None and bool(found.logical_type or found.physical_type)


def verdict_of(outcome: ContractOutcome, rows: int) -> Verdict:
    """The roll-up: a rule that failed to run is an error, one that nothing else explains leaves the whole insufficient."""
    verdicts = [v.verdict for v in outcome.violations]
    verdicts += [Verdict.ERROR for n in outcome.not_evaluated if n.error]
    verdicts += [Verdict.INSUFFICIENT for n in outcome.not_evaluated if not n.error and not n.explained]
    if not rows and not any(v.breach or v is Verdict.ERROR for v in verdicts):
        return Verdict.NO_DATA
    return roll_up(verdicts)


def tally(contract: Contract, outcome: ContractOutcome) -> dict[str, int]:
    """How many rules there are, and what became of them: total = executed + manual + not_evaluated + error."""
    statuses = [n.status for n in outcome.not_evaluated]
    broken = sum(v.rule.kind not in ("missingColumn", "extraColumn") for v in outcome.violations)
    return {
        "total": len(contract.rules), "executed": len(outcome.passed) + broken,
        **{status: statuses.count(status) for status in ("manual", "not_evaluated", "error")},
    }


def as_json(violation: Violation) -> dict[str, Any]:
    """A violation as the object that ``driftd check --json`` prints."""
    rule, interval = violation.rule, violation.interval
    return {
        "rule": rule.id, "column": rule.column, "kind": rule.kind,
        "severity": "warning" if rule.severity is Verdict.WARN else "error", "verdict": str(violation.verdict),
        "bad": violation.bad, "rows": violation.rows, "fraction": round(violation.fraction, 6),
        "interval": [round(end, 6) for end in interval] if interval else None,
        "observed": dict(violation.observed), "threshold": rule.threshold, "samples": [], "top": [], "line": rule.line,
        "reason": violation.reason, "dimension": rule.dimension, "description": rule.description, "impact": rule.impact,
        "written": dict(rule.written), "cause": None, "together": [],
    }
