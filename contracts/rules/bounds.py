"""minimum, maximum, exclusiveMinimum, exclusiveMaximum: bounds of numbers, dates and times."""

from __future__ import annotations

from datetime import date, datetime

from checks.core.expression import And, Column, Compare, Expression, IsNaN, Literal, Not
from contracts.model import Rule
from contracts.rules import RULES, RowRule


class _Bound(RowRule):
    """Bad rows lie beyond the bound; null is no breach, and NaN is one of `required` and of types, never in range."""

    operator = "<"

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        value = rule.argument
        if isinstance(value, (date, datetime)):
            value = value.isoformat()
        column = Column(rule.column or "")
        compare = Compare(self.operator, column, Literal(value))
        return And((Not(IsNaN(column)), compare)) if logical_type == "number" else compare


@RULES.register("minimum")
class Minimum(_Bound):
    operator = "<"


@RULES.register("maximum")
class Maximum(_Bound):
    operator = ">"


@RULES.register("exclusiveMinimum")
class ExclusiveMinimum(_Bound):
    operator = "<="


@RULES.register("exclusiveMaximum")
class ExclusiveMaximum(_Bound):
    operator = ">="
