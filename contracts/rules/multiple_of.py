"""multipleOf: only whole multiples of a step."""

from __future__ import annotations

from checks.core.expression import And, Column, Expression, IsNull, MultipleOf, Not
from contracts.model import Data, Rule
from contracts.rules import NUMBERS, RULES, RowRule


@RULES.register("multipleOf")
class MultipleOfRule(RowRule):
    """Bad rows are no whole multiple, within a billionth of their size; NaN and infinity never are."""

    says = "are no whole multiple"
    applies = NUMBERS

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        column = Column(rule.column or "")
        return And((Not(IsNull(column)), Not(MultipleOf(column, rule.argument))))
