"""pattern, minLength, maxLength: the form of texts."""

from __future__ import annotations

from checks.core.expression import And, Column, Compare, Expression, IsNull, Length, Literal, Matches, Not
from contracts.model import Data, Rule
from contracts.rules import RULES, TEXTS, RowRule


@RULES.register("pattern")
class Pattern(RowRule):
    """Bad rows are texts in which the regular expression is found nowhere; the search is not anchored."""

    says = "do not match"
    applies = TEXTS

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        return unmatched(rule.column or "", str(rule.argument))


def unmatched(name: str, pattern: str) -> Expression:
    """True of texts in which ``pattern`` is found nowhere."""
    column = Column(name)
    return And((Not(IsNull(column)), Not(Matches(column, pattern))))


@RULES.register("minLength")
class MinLength(RowRule):
    """Bad rows are texts of fewer characters."""

    says = "are shorter"
    applies = TEXTS

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        return Compare("<", Length(Column(rule.column or "")), Literal(int(rule.argument)))


@RULES.register("maxLength")
class MaxLength(RowRule):
    """Bad rows are texts of more characters."""

    says = "are longer"
    applies = TEXTS

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        return Compare(">", Length(Column(rule.column or "")), Literal(int(rule.argument)))
