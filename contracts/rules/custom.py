"""A condition that every row must satisfy, as a SQL expression: ``custom`` with engine driftd, or the custom property rowExpression."""

from __future__ import annotations

from collections.abc import Iterator

from checks.core.expression import And, Column, Compare, Expression, Literal, Not, Or, Scalar, columns
from contracts.model import Data, Observation, Rule
from contracts.rules import NUMBERS, RULES, Broken, MetricRule, RowRule


def compared(expression: Expression) -> Iterator[tuple[str, Scalar]]:
    """The columns that are compared with a constant, and the constant."""
    match expression:
        case Compare(_, Column(name), Literal(value)) | Compare(_, Literal(value), Column(name)):
            yield name, value
        case And(terms) | Or(terms):
            for term in terms:
                yield from compared(term)
        case Not(term):
            yield from compared(term)


class _Check(RowRule):
    says = "make it false"


@RULES.register("rowExpression")
class RowExpression(MetricRule):
    """Bad rows make the expression false; as in SQL's CHECK, unknown is no breach."""

    says = "make it false"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        lacking = sorted(name for name in columns(rule.argument["expression"]) if name not in data.types)
        if lacking:
            raise LookupError(f"blocked by missing column {lacking[0]}")
        for name, literal in compared(rule.argument["expression"]):
            number = isinstance(literal, (int, float)) and not isinstance(literal, bool)
            if number and data.types[name] not in (*NUMBERS, "boolean", "null"):
                raise LookupError(f"blocked: {name} is of type {data.types[name]}, and is compared with a number")
        return Not(rule.argument["expression"])

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        return super().judge(rule, seen) if rule.operators else _Check().judge(rule, seen)
