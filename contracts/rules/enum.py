"""enum: only the listed values."""

from __future__ import annotations

from checks.core.expression import And, Column, Expression, InSet, IsNull, Not
from contracts.model import Rule
from contracts.rules import RULES, RowRule


@RULES.register("enum")
class Enum(RowRule):
    """Bad rows hold a value that is not listed; null is a matter of `required`."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        column = Column(rule.column or "")
        listed = [value for value in rule.argument if value is not None]
        values = tuple(str(v) for v in listed) if logical_type == "string" else tuple(listed)
        return And((Not(IsNull(column)), Not(InSet(column, values))))
