"""pattern, minLength, maxLength: the form of texts."""

from __future__ import annotations

from checks.core.expression import And, Column, Compare, Expression, IsNull, Length, Literal, Matches, Not
from contracts.model import Rule
from contracts.rules import RULES, RowRule


@RULES.register("pattern")
class Pattern(RowRule):
    """Bad rows are texts in which the regular expression is found nowhere; the search is not anchored."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        column = Column(rule.column or "")
        return And((Not(IsNull(column)), Not(Matches(column, str(rule.argument)))))


@RULES.register("minLength")
class MinLength(RowRule):
    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        return Compare("<", Length(Column(rule.column or "")), Literal(int(rule.argument)))


@RULES.register("maxLength")
class MaxLength(RowRule):
    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        return Compare(">", Length(Column(rule.column or "")), Literal(int(rule.argument)))
