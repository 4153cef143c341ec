"""required: no null, and no NaN."""

from __future__ import annotations

from checks.core.expression import Column, Expression, IsNaN, IsNull, Or
from contracts.model import Rule
from contracts.rules import RULES, RowRule


@RULES.register("required")
class Required(RowRule):
    """Bad rows are null, or NaN in a column of numbers."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        column = Column(rule.column or "")
        return Or((IsNull(column), IsNaN(column))) if logical_type == "number" else IsNull(column)
