"""logicalType: the type of the data's own schema, never a cast into the contract's."""

from __future__ import annotations

from checks.core.expression import Expression
from contracts.model import Observation, Rule
from contracts.rules import RULES, Broken

FITS = {
    "number": {"number", "integer"},
    "timestamp": {"timestamp", "date"},
}


@RULES.register("logicalType")
class LogicalType:
    """Broken in every row when the column's type is another; an integer is a number."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        return None

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        actual = seen.types[rule.column or ""]
        if actual == "null" or actual in FITS.get(str(rule.argument), {str(rule.argument)}):
            return None
        return seen.rows, {"type": actual}, f"the column is of type {actual}, not {rule.argument}"
