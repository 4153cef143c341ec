"""minItems, maxItems, uniqueItems, minProperties, maxProperties, dimensions, and an object's required: the size of nested values."""

from __future__ import annotations

from checks.core.expression import And, Column, Compare, Expression, IsNull, Literal, Not, Or, never
from contracts.model import Data, Rule
from contracts.rules import RULES, RowRule


class _Size(RowRule):
    """Compares a number that is taken from each nested value, ``column|part``."""

    part, operator = "items", "<"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        return Compare(self.operator, Column(f"{rule.column}|{self.part}"), Literal(int(rule.argument)))


@RULES.register("minItems")
class MinItems(_Size):
    says = "have fewer"
    applies = frozenset(("array",))


@RULES.register("maxItems")
class MaxItems(_Size):
    says = "have more"
    applies = frozenset(("array",))
    operator = ">"


@RULES.register("dimensions")
class Dimensions(_Size):
    """Bad rows are vectors of another length."""

    says = "have another number"
    applies = frozenset(("array",))
    operator = "<>"


@RULES.register("uniqueItems")
class UniqueItems(RowRule):
    """Bad rows are arrays that hold an item twice."""

    says = "hold one twice"
    applies = frozenset(("array",))

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        if rule.argument is not True:
            column = Column(rule.column or "")
            return never(column)
        return Compare("<", Column(f"{rule.column}|distinct"), Column(f"{rule.column}|items"))


@RULES.register("minProperties")
class MinProperties(_Size):
    says = "have fewer"
    applies = frozenset(("object", "map"))
    part = "properties"


@RULES.register("maxProperties")
class MaxProperties(_Size):
    says = "have more"
    applies = frozenset(("object", "map"))
    part, operator = "properties", ">"


@RULES.register("objectRequired")
class ObjectRequired(RowRule):
    """Bad rows are objects that lack one of the listed properties, or hold null there."""

    says = "lack one"
    applies = frozenset(("object", "map"))

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        there = Not(IsNull(Column(rule.column or "")))
        paths = [f"{rule.column}.{name}" for name in rule.argument]
        if any(path not in data.types for path in paths):  # the type has no such property: every object lacks it
            return there
        missing = tuple(IsNull(Column(path)) for path in paths)
        return And((there, missing[0] if len(missing) == 1 else Or(missing)))
