"""minimum, maximum, exclusiveMinimum, exclusiveMaximum: bounds of numbers, dates and times."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from checks.core.expression import Column, Compare, Expression, IsNaN, Literal, Or, Scalar
from contracts.model import Data, Observation, Rule
from contracts.rules import NUMBERS, RULES, TIMES, Broken, RowRule


class _Bound(RowRule):
    """Bad rows lie beyond the bound. Null is a matter of `required`; NaN is in no range, and breaks every bound."""

    applies = NUMBERS | TIMES
    operator = "<"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name = rule.column or ""
        kind = data.types.get(name, "")
        column = Column(name)
        compare = Compare(self.operator, column, Literal(bound_of(rule.argument, kind, name in data.naive)))
        return Or((IsNaN(column), compare)) if kind == "number" else compare

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        broken = super().judge(rule, seen)
        nans = int(seen.facts.get(rule.column or "", {}).get("nan", 0))
        if broken is None or not nans:
            return broken
        return broken[0], broken[1], f"{broken[2]}, of which {min(nans, broken[0]):,} are NaN"


def bound_of(value: object, kind: str, naive: bool) -> Scalar:
    """The bound as a value that a column of type ``kind`` can be compared with; `LookupError` where there is none."""
    if kind in NUMBERS:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value if isinstance(value, float) or -(2**63) <= value < 2**63 else float(value)
        raise LookupError(f"blocked: the bound {value!r} is no number, and the column is of type {kind}")
    try:
        if not isinstance(value, str):
            raise ValueError
        if kind == "time":
            return time.fromisoformat(value)
        if kind == "date":
            return date.fromisoformat(value[:10])
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise LookupError(f"blocked: the bound {value!r} is no ISO {kind}, and the column is of type {kind}") from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return moment.replace(tzinfo=None) if naive else moment


@RULES.register("minimum")
class Minimum(_Bound):
    says = "are below"
    operator = "<"


@RULES.register("maximum")
class Maximum(_Bound):
    says = "are above"
    operator = ">"


@RULES.register("exclusiveMinimum")
class ExclusiveMinimum(_Bound):
    says = "are not above"
    operator = "<="


@RULES.register("exclusiveMaximum")
class ExclusiveMaximum(_Bound):
    says = "are not below"
    operator = ">="
