"""freshness, latency, frequency, retention: the service levels that can be seen in the data's own times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from checks.core.expression import Column, Compare, Expression, Later, Literal
from contracts.model import Data, Observation, Rule
from contracts.query import Extremes, Gap, Query
from contracts.rules import RULES, Broken, RuleKind
from contracts.rules._duration import seconds, words

FUTURE_SECONDS = 60.0
"""How far ahead of the clock a time may be, where the rule says nothing else."""


def _allowed(rule: Rule) -> float:
    return seconds(rule.argument.get("value"), rule.argument.get("unit"))


def _elements(rule: Rule, data: Data) -> tuple[str, ...]:
    found = rule.columns or ((data.timestamp,) if data.timestamp else ())
    if not found:
        raise LookupError("the service level names no element, and no column is known to hold the event time")
    for name in found:
        if name in data.types and data.types[name] not in ("timestamp", "date"):
            raise LookupError(f"blocked: {name} is of type {data.types[name]}, no time")
        if name not in data.types:
            raise LookupError(f"blocked by missing column {name}")
    return found


def _of_events(rule: Rule, data: Data) -> bool:
    """Whether the rule is about event times that are written as numbers or texts: the scan reads those, predicates do not."""
    of_events = not rule.columns or rule.columns == (data.timestamp,)
    return of_events and data.types.get(data.timestamp or "") not in ("timestamp", "date")


class _Age(RuleKind):
    """``as_of`` less the newest time, fractions kept; times in the future are a violation of their own."""

    on_rows = False

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        if _of_events(rule, data):
            return None  # the age of the newest event is all that can be known
        name = _elements(rule, data)[0]
        limit = data.as_of + timedelta(seconds=float(rule.argument.get("future", FUTURE_SECONDS)))
        if data.types[name] == "date":
            return Compare(">", Column(name), Literal(limit.astimezone(UTC).date()))
        return Compare(">", Column(name), Literal(limit.astimezone(UTC).replace(tzinfo=None) if name in data.naive else limit))

    def query(self, rule: Rule, data: Data) -> Query | None:
        if not rule.columns or _of_events(rule, data):
            return None
        name = _elements(rule, data)[0]
        return None if name == data.timestamp else Extremes(name)

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        allowed = _allowed(rule)
        last: datetime | None = seen.answer.get("last", seen.last)
        if last is None:
            if seen.rows and not rule.columns and seen.timestamp is None:
                raise LookupError("no column is known to hold the event time: name an element, or a property's role timestamp")
            raise LookupError("the window has no rows" if not seen.rows else "the element is null in every row")
        age = (seen.as_of - last).total_seconds()
        if seen.bad:
            ahead = words(-age) if age < 0 else "the clock"
            return seen.bad, {"age_hours": round(age / 3600, 4), "future": seen.bad}, (
                f"{seen.bad:,} of {seen.rows:,} rows lie in the future, the farthest by {ahead}"
            )
        if age <= allowed:
            return None
        return seen.rows, {"age_hours": round(age / 3600, 4)}, f"the newest row is {words(age)} old"


@RULES.register("freshness")
class Freshness(_Age):
    """Broken when ``as_of`` less the newest time is more than the value."""


@RULES.register("latency")
class Latency(_Age):
    """With one element the age of the newest row; with two, event and arrival, the percentile of what lies between them."""

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        if len(rule.columns) < 2:
            return super().predicate(rule, data)
        names = _elements(rule, data)
        return Later(Column(names[1]), Column(names[0]), _allowed(rule))

    def query(self, rule: Rule, data: Data) -> Query | None:
        return super().query(rule, data) if len(rule.columns) < 2 else None

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        if len(rule.columns) < 2:
            return super().judge(rule, seen)
        if not seen.rows:
            raise LookupError("the window has no rows")
        percentile, late = float(rule.argument.get("percentile", 0.99)), seen.bad or 0
        if late <= (1 - percentile) * seen.rows + 1e-9:
            return None
        return late, {"late": late, "percentile": percentile}, (
            f"{late:,} of {seen.rows:,} rows came later than {words(_allowed(rule))}; {100 * (1 - percentile):.3g}% may"
        )


@RULES.register("frequency")
class Frequency(RuleKind):
    """Broken when two neighbouring times lie farther apart than the value."""

    def query(self, rule: Rule, data: Data) -> Query | None:
        return Gap(_elements(rule, data)[0])

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        gap = seen.answer["seconds"]
        if gap is None:
            raise LookupError("the window has fewer than two times")
        if gap <= _allowed(rule):
            return None
        return 0, {"gap_hours": round(gap / 3600, 4)}, f"nothing came for {words(gap)} after {seen.answer['after']}"


@RULES.register("retention")
class Retention(RuleKind):
    """Broken by rows older than the value, of those that are read."""

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name = _elements(rule, data)[0]
        limit = data.as_of - timedelta(seconds=_allowed(rule))
        if data.types[name] == "date":
            return Compare("<", Column(name), Literal(limit.astimezone(UTC).date()))
        return Compare("<", Column(name), Literal(limit.astimezone(UTC).replace(tzinfo=None) if name in data.naive else limit))

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        if not seen.bad:
            return None
        return seen.bad, {"older": seen.bad}, f"{seen.bad:,} of {seen.rows:,} rows are older than {words(_allowed(rule))}"
