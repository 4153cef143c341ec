"""invalidValues and missingValues: how many values are not among the valid ones, or among those that mean missing."""

from __future__ import annotations

from checks.core.expression import And, Column, Expression, InSet, IsNaN, IsNull, Not, Or
from contracts.model import Data, Rule
from contracts.rules import RULES, TEXTS, MetricRule
from contracts.rules.enum import comparable, outside
from contracts.rules.text import unmatched


@RULES.register("invalidValues")
class InvalidValues(MetricRule):
    """How many values are not in ``validValues``, or do not match ``pattern``.

    A null is valid where it is listed, and invalid where there is a list without it. A pattern says nothing of nulls.
    """

    says = "are not valid"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name = rule.column or ""
        listed, pattern = rule.argument.get("validValues"), rule.argument.get("pattern")
        terms: list[Expression] = []
        if listed is not None:
            terms.append(outside(name, comparable(listed, data.types[name])))
            if None not in listed:
                terms.append(IsNull(Column(name)))
        if pattern is not None:
            if data.types[name] not in TEXTS:
                raise LookupError(f"blocked: a pattern has no meaning on a column of type {data.types[name]}")
            terms.append(unmatched(name, str(pattern)))
        if not terms:
            raise LookupError("the rule has neither validValues nor pattern")
        return terms[0] if len(terms) == 1 else Or(tuple(terms))


@RULES.register("missingValues")
class MissingValues(MetricRule):
    """How many values are among ``missingValues``; null and NaN count only where null is listed, or where there is no list."""

    says = "hold a value that means missing"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name = rule.column or ""
        column, listed = Column(name), rule.argument.get("missingValues")
        if listed is None:
            listed = [None]
        terms: list[Expression] = []
        if None in listed:
            terms.append(IsNull(column))
            if data.types[name] == "number":
                terms.append(IsNaN(column))
        try:
            values = comparable(listed, data.types[name]) if any(v is not None for v in listed) else ()
        except LookupError:  # texts that mean missing, on a column that can hold none of them
            if not terms:
                raise
            values = ()
        if values:
            terms.append(And((Not(IsNull(column)), InSet(column, values))))
        return terms[0] if len(terms) == 1 else Or(tuple(terms))
