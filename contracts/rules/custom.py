"""A condition that every row must satisfy, as a SQL expression: ``custom`` with engine driftd, or the custom property rowExpression."""

from __future__ import annotations

from checks.core.expression import Expression, Not, columns
from contracts.model import Data, Observation, Rule
from contracts.rules import RULES, Broken, MetricRule, RowRule


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
        return Not(rule.argument["expression"])

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        return super().judge(rule, seen) if rule.operators else _Check().judge(rule, seen)
