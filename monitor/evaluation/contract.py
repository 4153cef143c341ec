"""The contract section of a window: binding, the questions that are asked apart, samples, causes, and the verdict."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa

from checks.core.binning import Binning
from checks.core.errors import SourceError
from checks.core.expression import Column as Named
from checks.core.expression import Expression, IsNull, Not
from checks.core.expression import columns as columns_of
from checks.core.profile import ColumnProfile, Profile
from checks.core.result import Verdict, finite
from checks.core.window import Window, iso
from contracts.causes import Clues, redelivered, suspect
from contracts.judge import SCOPE, Bound, as_json, bind, judge, tally, verdict_of
from contracts.masking import masked, shown, without_values
from contracts.model import Column, Contract, ContractOutcome, Data, Observation, Violation
from contracts.query import ForeignKey
from monitor.alerting.definition import digest
from monitor.ports import Engine, Relation, RuleResult, Source
from monitor.profiling.nested import nested_types
from monitor.profiling.plan import digest_of
from monitor.profiling.queries import Asked, Asking, ask
from monitor.profiling.samples import Offending, Wanted, columns_read, from_engine, from_stream

T = TypeVar("T")
TIMED = frozenset(("timezone", "defaultTimezone", "freshness", "latency", "frequency", "retention"))
HOLDERS = frozenset(("object", "array", "map", "vector"))
TEXTUAL = frozenset(("csv",))
"""Kinds of source whose values are all texts."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What of a monitor the contract's evaluation needs.

    ``others`` opens the data of another object of the contract, or raises `LookupError`; ``private`` names columns whose
    values are never shown; ``earlier`` are the key digests of earlier windows, oldest first.
    """

    source: Source
    kind: str
    timestamp: str | None
    window: Window | None
    as_of: datetime
    key: bytes
    identifier: str | None = None
    private: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    owner: str = ""
    others: Callable[[str], Source] | None = None
    earlier: Sequence[tuple[datetime, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual: the reference's binning, profile and types, and the earlier windows with their profiles."""

    binning: Binning | None = None
    reference: Profile | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    earlier: Sequence[tuple[str, Profile]] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """The section and its rule results, the outcome, the digest of the window's keys, and what a later look may reuse."""

    section: dict[str, Any]
    results: list[RuleResult]
    outcome: ContractOutcome
    keys: bytes | None
    kept: dict[str, Any]
    rows: int = 0


# -- binding


def bind_contract(
    contract: Contract, setting: Setting, types: Mapping[str, str], kept: Mapping[str, Any] | None = None, *, rows: bool = True,
) -> Bound:
    """The contract over columns of ``types``; ``kept`` holds what an earlier scan found out of nested types.

    Without ``rows`` nothing is asked of the source.
    """
    natives: dict[str, str] = {}
    nested: dict[str, str] = {}
    if kept is not None:
        natives, nested = dict(kept.get("natives", {})), dict(kept.get("nested", {}))
    elif rows and types and _needs_schema(contract, types):
        schema = setting.source.schema(setting.timestamp, setting.window)
        natives = {f.name: str(f.type) for f in schema if pa.types.is_timestamp(f.type) or pa.types.is_time(f.type)}
        named = [
            Column(f"{rule.column}.{name}", None, None, rule.line, rule.column)
            for rule in contract.rules if rule.kind == "objectRequired" and not rule.elsewhere for name in rule.argument
        ]
        nested = nested_types(schema, [*contract.columns, *(c for c in named if contract.column(c.name) is None)])
    naive = frozenset(name for name, text in natives.items() if "tz=" not in text)
    data = Data({**types, **nested}, setting.as_of, natives, naive, setting.kind in TEXTUAL, setting.timestamp, frozenset(nested))
    bound = bind(contract, data, setting.ignored)
    lacking = {
        rule: f"no data is named for the object {query.object!r}"
        for rule, query in bound.queries.items()
        if isinstance(query, ForeignKey) and query.object != contract.object and not _opens(setting, query.object)
    }
    if not lacking:
        return bound
    queries = {rule: query for rule, query in bound.queries.items() if rule not in lacking}
    return replace(bound, queries=queries, blocked={**bound.blocked, **lacking})


def _needs_schema(contract: Contract, types: Mapping[str, str]) -> bool:
    if contract.nested or any(c.logical_type in HOLDERS for c in contract.columns):
        return True
    return any(
        rule.kind in TIMED or (isinstance(rule.argument, str) and types.get(rule.column or "") in ("timestamp", "time"))
        for rule in contract.rules
    )


def _opens(setting: Setting, name: str) -> bool:
    if setting.others is None:
        return False
    try:
        setting.others(name)
    except LookupError:
        return False
    return True


def nested_of(bound: Bound, types: Mapping[str, str]) -> dict[str, str]:
    """The logical types of the paths inside columns, for the plan."""
    return {name: kind for name, kind in bound.data.types.items() if name not in types}


def lineage_of(bound: Bound, types: Mapping[str, str]) -> dict[str, Any]:
    """What is stored of a binding, to bind the same again without the data."""
    nested, natives = nested_of(bound, types), dict(bound.data.natives)
    queries = {rule: digest_of(query) for rule, query in bound.queries.items()}
    return {key: value for key, value in (("nested", nested), ("natives", natives), ("queries", queries)) if value}


# -- judging


def judge_contract(
    bound: Bound, profile: Profile, setting: Setting, types: Mapping[str, str], failed: Mapping[str, str], apart: Mapping[str, str],
    usual: Usual, kept: Mapping[str, Any] | None = None,
) -> Judged:
    """Judge every rule on what the scan counted, ask what it could not, and say of each violation what is known.

    ``kept`` is what an earlier look at the same rows left; then nothing is read.
    """
    last = datetime.fromtimestamp(profile.last / 1e6, UTC) if profile.last is not None else None
    seen = Observation(profile.rows, setting.as_of, bound.data.types, last, {n: _facts(c) for n, c in profile.columns.items()}, timestamp=setting.timestamp)
    asked = _again(kept, bound) if kept is not None else _ask(bound, setting, types) if profile.rows else Asked()
    why = {rule: without_values(text) for rule, text in failed.items()} | dict(asked.failed)
    outcome = judge(bound, profile.rules, seen, why, asked.answers, apart)
    violations = [as_json(v) for v in outcome.violations]
    if kept is not None:
        details = dict(kept.get("details", {}))
    else:
        details = _details(bound, outcome, setting, types, asked, usual, profile) if profile.rows else {}
    for violation in violations:
        violation |= details.get(violation["rule"], {})
    _together(violations)
    section = {
        "verdict": str(verdict_of(outcome, profile.rows)), "violations": violations,
        "not_evaluated": [
            {"rule": n.rule.id, "status": n.status, "reason": n.reason, "line": n.rule.line, "description": n.rule.description}
            for n in outcome.not_evaluated
        ],
        "rules": tally(bound.contract, outcome), "apart": dict(outcome.apart), "owner": setting.owner,
        "contract": {
            "id": bound.contract.id, "version": bound.contract.version, "hash": bound.contract.hash, "team": bound.contract.team,
            "object": bound.contract.object, "inferred": bound.contract.inferred,
        },
    }
    keys = None
    if asked.digests:
        keys = json.dumps({rule: b64encode(body).decode() for rule, body in asked.digests.items()}).encode()
    left = {"answers": {rule: _plain(answer) for rule, answer in asked.answers.items()}, "details": details}
    kept_now = {name: value for name, value in left.items() if value}
    return Judged(section, _results(bound, outcome, violations, profile.rows), outcome, keys, kept_now, profile.rows)


def _facts(column: ColumnProfile) -> dict[str, float]:
    facts: dict[str, float] = {}
    if finite(column.minimum) is not None:
        facts = {"min": float(column.minimum), "max": float(column.maximum)}
    if column.missing:
        facts["missing"] = column.missing
    if column.nans:
        facts["nan"] = column.nans
    return facts


def _results(bound: Bound, outcome: ContractOutcome, violations: Sequence[Mapping[str, Any]], rows: int) -> list[RuleResult]:
    promised, inferred = {id: digest(rule.threshold) for id, rule in bound.rules.items()}, bound.contract.inferred
    found = [RuleResult(f"contract.{rule}", "contract", "pass", n=rows, definition=promised[rule]) for rule in outcome.passed]
    for violation, shown_as in zip(outcome.violations, violations, strict=True):
        rule, cause = violation.rule, shown_as["cause"]
        place = "" if inferred or rule.kind == "extraColumn" else f" (line {rule.line} of the contract)"
        reason = f"{rule.id}: {violation.reason}; promised: {rule.threshold}{place}" + (f"; {cause['sentence']}" if cause else "")
        low, high = violation.interval or (None, None)
        found.append(RuleResult(
            f"contract.{rule.id}", "contract", str(violation.verdict), violation.fraction, low, high, violation.rows, rule.column, reason=reason,
            definition=promised.get(rule.id, digest(rule.threshold)),
        ))
    found += [
        RuleResult(f"contract.{n.rule.id}", "contract", "error", n=rows, column=n.rule.column, reason=f"{n.rule.id}: {n.reason}")
        for n in outcome.not_evaluated if n.error
    ]
    return found


# -- questions that are asked apart


def in_engine(setting: Setting, columns: Sequence[str], work: Callable[[Relation | None], T]) -> T:
    """What ``work`` makes of the rows in their engine; of None where they lie in files."""
    if isinstance(setting.source, Engine):
        return setting.source.aggregate(columns, setting.timestamp, setting.window, work)
    return work(None)


def asking_of(bound: Bound, setting: Setting, types: Mapping[str, str], relation: Relation | None) -> Asking:
    """What the queries of a window need; ``relation`` holds its rows where they lie in an engine."""

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return setting.source.read(list(names), setting.timestamp, setting.window)

    def other(name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if name == bound.contract.object:
            return read(columns)
        if setting.others is None:
            raise LookupError(f"no data is named for the object {name!r}")
        return setting.others(name).read(list(columns), None, None)

    earlier: dict[str, list[tuple[datetime, bytes]]] = {}
    for start, body in setting.earlier:
        for rule, text in json.loads(body).items():
            earlier.setdefault(rule, []).append((start, b64decode(text)))
    where = {rule: bound.predicates[rule + SCOPE] for rule in bound.queries if rule + SCOPE in bound.predicates}
    return Asking(
        read, bound.data.types, list(types), other, where, setting.key, earlier, setting.window.start if setting.window else None, relation,
    )


def _ask(bound: Bound, setting: Setting, types: Mapping[str, str]) -> Asked:
    if not bound.queries:
        return Asked()
    return in_engine(setting, list(types), lambda relation: ask(bound.queries, asking_of(bound, setting, types, relation)))


def _plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as JSON, its raw keys left out: what is stored shows no values."""
    found = {k: iso(v) if isinstance(v, datetime) else v for k, v in answer.items() if k != "top"}
    return {k: str(v) if isinstance(v, float) and finite(v) is None else v for k, v in found.items()}


def _again(kept: Mapping[str, Any], bound: Bound) -> Asked:
    answers = {}
    for rule, answer in kept.get("answers", {}).items():
        if rule in bound.queries:
            answers[rule] = {k: datetime.fromisoformat(v) if k in ("first", "last") and v else v for k, v in answer.items()}
            if isinstance(answer.get("value"), str):  # NaN or infinite, which JSON has not
                answers[rule]["value"] = float(answer["value"])
    return Asked(answers, {rule: "it was not asked when the rows were read" for rule in bound.queries if rule not in answers})


# -- samples and causes


def _wanted(bound: Bound, violation: Violation) -> Wanted | None:
    """What offending rows are, and which of their columns are shown; None for rules about no single rows."""
    rule = violation.rule
    predicate: Expression | None = bound.predicates.get(rule.id)
    if predicate is None and rule.kind in ("logicalType", "physicalType") and rule.column:
        predicate = Not(IsNull(Named(rule.column)))
    if predicate is None:
        return None
    names = _typed_inside(violation, bound)
    return Wanted(predicate, names) if names and all(n in bound.data.types for n in names) else None


def _shown_columns(violation: Violation) -> tuple[str, ...]:
    """The columns whose values the samples of a violation show."""
    rule = violation.rule
    if rule.kind == "rowExpression":
        return tuple(sorted(columns_of(rule.argument["expression"])))
    return (rule.column.partition("|")[0],) if rule.column else rule.columns[:1]


def _typed_inside(violation: Violation, bound: Bound) -> tuple[str, ...]:
    """The JSON types instead of the values, where it is the type that is wrong."""
    kinds = f"{violation.rule.column}|type"
    return (kinds,) if violation.rule.kind == "logicalType" and kinds in bound.data.types else _shown_columns(violation)


def offending_rows(
    bound: Bound, violations: Sequence[Violation], setting: Setting, types: Mapping[str, str],
    apart: Mapping[str, str] | None = None,
) -> dict[str, Offending]:
    """A second pass over the rules that failed, bounded, lowest rows first; what cannot be had is left out."""
    wanted = {v.rule.id: w for v in violations if v.bad and (w := _wanted(bound, v)) is not None}
    if not wanted:
        return {}
    known = bound.data.types
    identifier = setting.identifier if setting.identifier in types else None
    pushed: dict[str, Offending] = {}
    if isinstance(setting.source, Engine):
        native = {r: w for r, w in wanted.items() if r not in (apart or {}) and set(columns_read({r: w})) <= set(types)}

        def work(relation: Relation | None) -> dict[str, Offending]:
            assert relation is not None
            return from_engine(relation, native, types, identifier, setting.timestamp)

        if native:
            pushed = setting.source.aggregate(list(types), setting.timestamp, setting.window, work)
        wanted = {r: w for r, w in wanted.items() if r not in native}
    if wanted:
        from monitor.profiling.nested import top_of

        names = dict.fromkeys(top_of(n, types) or n for n in columns_read(wanted))
        columns = [n for n in [*names, *([identifier] if identifier else [])] if n in types]
        batches = setting.source.read(columns, setting.timestamp, setting.window)
        pushed |= from_stream(batches, wanted, known, identifier, setting.timestamp)
    return pushed


def _details(
    bound: Bound, outcome: ContractOutcome, setting: Setting, types: Mapping[str, str], asked: Asked, usual: Usual, profile: Profile,
) -> dict[str, dict[str, Any]]:
    """Samples, most frequent values and suspected cause of every violation, by rule."""
    try:
        rows = offending_rows(bound, outcome.violations, setting, types, outcome.apart)
    except SourceError:  # the rows went away meanwhile: the counts stand, and there is nothing to show
        rows = {}
    found: dict[str, dict[str, Any]] = {}
    whole = redelivered(profile.columns, profile.rows, [(label, p.columns, p.rows) for label, p in usual.earlier])
    for violation in outcome.violations:
        rule = violation.rule
        plain = _plainly(bound.contract, violation, setting)
        offending = rows.get(rule.id, Offending())
        keyed = [(key[0] if len(key) == 1 else tuple(key), n) for key, n in asked.answers.get(rule.id, {}).get("top", ())]
        top = keyed or offending.top
        samples = [{**_locator(at, setting, bound.contract), **shown(value, setting.key, plain=plain)} for at, value in offending.rows]
        clues = _clues(bound, violation, setting, usual, profile, top, offending, whole or _repeats(asked, rule.id))
        found[rule.id] = {
            "samples": samples, "top": [{**shown(value, setting.key, plain=plain), "rows": n} for value, n in top],
            "cause": suspect(violation, clues),
        }
    return {rule: detail for rule, detail in found.items() if any(detail.values())}


def _plainly(contract: Contract, violation: Violation, setting: Setting) -> bool:
    """Whether the owner allows the values to be shown: ``mask: false``, and neither classified nor personal."""
    found = [contract.column(name) for name in {*_shown_columns(violation), *violation.rule.columns}]
    return bool(found) and all(
        c is not None and not c.mask and not c.classification and c.name not in setting.private for c in found
    )


def _locator(at: Mapping[str, Any], setting: Setting, contract: Contract) -> dict[str, Any]:
    if "id" not in at:
        return dict(at)
    hidden = setting.identifier in setting.private or setting.identifier in contract.classified
    return {**at, "id": masked(at["id"], setting.key) if hidden else str(at["id"])}


def _repeats(asked: Asked, rule: str) -> str | None:
    answer = asked.answers.get(rule, {})
    if answer.get("share", 0) >= 0.9 and answer.get("window"):
        return f"{answer['share']:.0%} of the keys are those of the window {answer['window']}: a re-delivered batch"
    return None


def _clues(
    bound: Bound, violation: Violation, setting: Setting, usual: Usual, profile: Profile, top: Sequence[tuple[Any, int]],
    offending: Offending, again: str | None,
) -> Clues:
    rule, name = violation.rule, violation.rule.column or ""
    spec = next((c for c in usual.binning.columns if c.name == name), None) if usual.binning is not None else None
    listed = rule.argument if rule.kind == "enum" else rule.argument.get("validValues") if isinstance(rule.argument, Mapping) else None
    if listed is None and spec is not None:
        listed = [c for c in spec.categories if not c.startswith("#")]
    open_values = not (name in setting.private or name in bound.contract.classified or (spec is not None and spec.private))
    return Clues(
        binning=spec if spec is not None and spec.kind == "numeric" else None,
        usual=usual.reference.columns.get(name) if usual.reference is not None else None, now=profile.columns.get(name),
        top=top, listed=list(listed or ()), was=usual.types.get(name), actual=bound.data.types.get(name), lead=offending.lead,
        redelivered=again, plain=open_values,
    )


def _together(violations: Sequence[dict[str, Any]]) -> None:
    """For each violation the others on the same column, or with a sampled row in common."""
    rows = {v["rule"]: {s["row"] for s in v["samples"] if "row" in s} | {str(s.get("id")) for s in v["samples"] if "id" in s} for v in violations}
    for violation in violations:
        violation["together"] = [
            other["rule"] for other in violations if other is not violation and (
                (violation["column"] is not None and other["column"] == violation["column"]) or rows[violation["rule"]] & rows[other["rule"]]
            )
        ]


__all__ = ["Judged", "Setting", "Usual", "Verdict", "bind_contract", "judge_contract", "lineage_of", "nested_of", "offending_rows"]
