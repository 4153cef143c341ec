"""required, primaryKey, nullValues: no null, and no NaN."""

from __future__ import annotations

from checks.core.expression import And, Column, Expression, InSet, IsNaN, IsNull, Not, Or
from contracts.model import Data, Rule
from contracts.rules import RULES, MetricRule, RowRule


def empty(name: str, data: Data) -> Expression:
    """True of null, and of NaN in a column of numbers; of a nested value only where what holds it is there."""
    column = Column(name)
    if f"{name}|type" in data.types:  # inside JSON a value of another type is there
        found: Expression = IsNull(Column(f"{name}|type"))
    else:
        found = Or((IsNull(column), IsNaN(column))) if data.types.get(name) == "number" else IsNull(column)
    holder = name.rpartition(".")[0]
    if name not in data.nested or not holder:
        return found
    if f"{holder}|type" in data.types:
        return And((InSet(Column(f"{holder}|type"), ("object",)), found))
    return And((Not(IsNull(Column(holder))), found)) if holder in data.types else found


@RULES.register("required")
class Required(RowRule):
    """Bad rows are null, or NaN in a column of numbers."""

    says = "are null"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        return empty(rule.column or "", data)


@RULES.register("primaryKey")
class PrimaryKey(Required):
    """A part of the primary key is never null."""


@RULES.register("nullValues")
class NullValues(MetricRule):
    """How many rows are null, or NaN in a column of numbers."""

    says = "are null"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        return empty(rule.column or "", data)
