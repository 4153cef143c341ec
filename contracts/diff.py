"""What two versions of a contract promise differently: every change loosens or tightens, and so breaks somebody's trust."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from checks.core.result import Verdict
from contracts.model import Column, Contract, Rule
from contracts.rules._duration import seconds

TIGHTENING, LOOSENING, BOTH, NEUTRAL = "tightening", "loosening", "both", "neutral"
BREAKS = {TIGHTENING: ("producer",), LOOSENING: ("consumer",), BOTH: ("producer", "consumer"), NEUTRAL: ()}
"""A tighter promise breaks the producer, who must now keep it; a looser one the consumer, who relied on it."""

HIGHER_IS_TIGHTER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
LOWER_IS_TIGHTER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER_BOUNDS, UPPER_BOUNDS = ("mustBeGreaterThan", "mustBeGreaterOrEqualTo"), ("mustBeLessThan", "mustBeLessOrEqualTo")


@dataclass(frozen=True, slots=True)
class Change:
    """One change: ``path`` names it, ``effect`` is tightening, loosening, both or neutral; ``line`` is in the newer document."""

    path: str
    what: str
    effect: str
    line: int

    @property
    def breaks(self) -> tuple[str, ...]:
        """Whom the change breaks: producer, consumer, both or nobody."""
        return BREAKS[self.effect]

    def __str__(self) -> str:
        broken = " and ".join(self.breaks)
        return f"{self.path}: {self.what} ({self.effect}" + (f", breaking for the {broken})" if broken else ")")


def diff(old: Sequence[Contract], new: Sequence[Contract]) -> list[Change]:
    """Every change between the objects of two documents, in the order of the newer one."""
    before, after = {c.object: c for c in old}, {c.object: c for c in new}
    found: list[Change] = []
    for name, contract in after.items():
        if name in before:
            found += _object(before[name], contract)
        else:
            found.append(Change(name, "the object is new", TIGHTENING, 1))
    found += [Change(name, "the object is gone", LOOSENING, 1) for name in before if name not in after]
    return found


def _object(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = {c.name: c for c in old.columns}, {c.name: c for c in new.columns}
    for name, column in after.items():
        if name not in before:
            yield _added(new, column)
        else:
            yield from _column(new.object, before[name], column)
    for name in before:
        if name not in after:
            yield Change(f"{new.object}.{name}", "the column is gone", LOOSENING, 1)
    if old.strict_columns != new.strict_columns:
        yield Change(f"{new.object}.strictColumns", f"is {new.strict_columns}", TIGHTENING if new.strict_columns else LOOSENING, 1)
    for known, rule in _paired(_own(old, before, after), _own(new, before, after)):
        if rule is None and known is not None:
            yield Change(f"{new.object}.{known.id}", f"the rule is gone: {known.threshold}", _presence(known, LOOSENING), 1)
        elif rule is not None and known is None:
            yield Change(f"{new.object}.{rule.id}", f"new rule: {rule.threshold}", _presence(rule, TIGHTENING), rule.line)
        elif rule is not None and known is not None:
            yield from _rule(new.object, known, rule)


def _paired(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[tuple[Rule | None, Rule | None]]:
    """Rules of both versions side by side: of several of one kind on one column, those that say the same first."""
    groups: dict[str, tuple[list[Rule], list[Rule]]] = {}
    for place, rules in enumerate((old, new)):
        for rule in rules:
            groups.setdefault(re.sub(r"#\d+$", "", rule.id), ([], []))[place].append(rule)
    for mine, theirs in groups.values():
        for rule in list(theirs):
            same = next((r for r in mine if (r.written, r.severity) == (rule.written, rule.severity)), None)
            if same is not None:
                mine.remove(same)
                theirs.remove(rule)
                yield same, rule
        yield from zip_longest(mine, theirs)


def _own(contract: Contract, before: Mapping[str, Column], after: Mapping[str, Column]) -> list[Rule]:
    """The rules of columns that both versions have, and of the object; the others come and go with their column."""
    return [
        rule for rule in contract.rules
        if not rule.elsewhere and (rule.column is None or (rule.column in before and rule.column in after))
    ]


def _added(contract: Contract, column: Column) -> Change:
    what = "new column, required" if column.required else "new column"
    return Change(f"{contract.object}.{column.name}", what, TIGHTENING, column.line)


def _column(name: str, old: Column, new: Column) -> Iterator[Change]:
    for key, effect in (("classification", NEUTRAL), ("unit", BOTH), ("role", NEUTRAL)):
        before, after = getattr(old, key), getattr(new, key)
        if before != after:
            yield Change(f"{name}.{new.name}.{key}", f"{before} became {after}", effect, new.line)


def _presence(rule: Rule, effect: str) -> str:
    return NEUTRAL if rule.manual or rule.not_evaluated or rule.argument is False else effect


def _rule(name: str, old: Rule, new: Rule) -> Iterator[Change]:
    path = f"{name}.{new.id}"
    effects = set(_effects(old, new)) if not (old.manual and new.manual) else set()
    if effects:
        effect = effects.pop() if len(effects) == 1 else BOTH
        yield Change(path, f"{_said(old, new)} became {_said(new, old)}", effect, new.line)
    if old.severity is not new.severity:
        words = {Verdict.WARN: "warning", Verdict.FAIL: "error"}
        effect = TIGHTENING if new.severity is Verdict.FAIL else LOOSENING
        yield Change(path, f"severity {words[old.severity]} became {words[new.severity]}", effect, new.line)


def _said(rule: Rule, other: Rule) -> str:
    """The rule as it is written, with what differs where its bounds do not say so."""
    if rule.threshold != other.threshold:
        return rule.threshold
    keys = [k for k in {**rule.written, **other.written} if rule.written.get(k) != other.written.get(k)]
    return ", ".join(f"{key} {rule.written.get(key, 'not given')}" for key in keys) or rule.threshold


def _effects(old: Rule, new: Rule) -> Iterator[str]:
    if old.kind != new.kind or old.where != new.where or old.percent != new.percent or old.columns != new.columns:
        yield BOTH
        return
    if old.tolerance != new.tolerance:
        yield LOOSENING if new.tolerance > old.tolerance else TIGHTENING
    yield from _operators(old.operators, new.operators)
    if old.argument != new.argument:
        yield _argument(new.kind, old.argument, new.argument)


def _argument(kind: str, old: Any, new: Any) -> str:
    if kind in HIGHER_IS_TIGHTER or kind in LOWER_IS_TIGHTER:
        before, after = _comparable(old), _comparable(new)
        if type(before) is not type(after):
            return BOTH
        if before == after:
            return NEUTRAL
        raised = after > before
        return TIGHTENING if raised is (kind in HIGHER_IS_TIGHTER) else LOOSENING
    if kind == "enum":
        return _sets(old, new)
    if kind == "invalidValues" and set(old) == set(new) == {"validValues"}:
        return _sets(old["validValues"], new["validValues"])
    if kind == "missingValues" and set(old) == set(new) == {"missingValues"}:
        return {TIGHTENING: LOOSENING, LOOSENING: TIGHTENING}.get(_sets(old["missingValues"], new["missingValues"]), BOTH)
    if kind in ("freshness", "latency", "frequency", "retention"):
        try:
            before, after = (seconds(a.get("value"), a.get("unit")) for a in (old, new))
        except LookupError:
            return BOTH
        return NEUTRAL if before == after else LOOSENING if after > before else TIGHTENING
    if kind == "logicalType" and (old, new) in (("integer", "number"), ("date", "timestamp")):
        return LOOSENING
    if kind == "logicalType" and (new, old) in (("integer", "number"), ("date", "timestamp")):
        return TIGHTENING
    return BOTH


def _comparable(bound: Any) -> Any:
    """A bound as a number or a moment, so that two ways to write the same are the same."""
    if isinstance(bound, (int, float)):
        return float(bound)
    try:
        moment = datetime.fromisoformat(str(bound))
    except ValueError:
        return str(bound)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _sets(old: Sequence[Any], new: Sequence[Any]) -> str:
    before, after = {repr(v) for v in old}, {repr(v) for v in new}
    return NEUTRAL if before == after else LOOSENING if after > before else TIGHTENING if after < before else BOTH


def _operators(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in new:
        if key not in old:
            yield TIGHTENING
        elif old[key] != new[key]:
            yield _moved(key, old[key], new[key])
    if any(key not in new for key in old):
        yield LOOSENING


def _moved(key: str, old: Any, new: Any) -> str:
    if key in LOWER_BOUNDS or key in UPPER_BOUNDS:
        return TIGHTENING if (new > old) is (key in LOWER_BOUNDS) else LOOSENING
    if key == "mustBeBetween" or key == "mustNotBeBetween":
        wider, narrower = new[0] <= old[0] and new[1] >= old[1], new[0] >= old[0] and new[1] <= old[1]
        effects = (LOOSENING, TIGHTENING) if key == "mustBeBetween" else (TIGHTENING, LOOSENING)
        return effects[0] if wider else effects[1] if narrower else BOTH
    return BOTH
