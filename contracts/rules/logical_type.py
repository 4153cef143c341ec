"""logicalType: the type of the data's own schema, never a cast into the contract's."""

from __future__ import annotations

from checks.core.expression import And, Column, Expression, InSet, IsNaN, IsNull, MultipleOf, Not
from contracts.model import Data, Observation, Rule
from contracts.rules import RULES, Broken, RowRule
from contracts.rules.text import unmatched

FITS = {
    "number": {"number", "integer"}, "timestamp": {"timestamp", "date"}, "object": {"object", "map"}, "map": {"object", "map"},
    "vector": {"array"},
}
PARSES = {
    "integer": r"^\s*[+-]?\d+\s*$",
    "number": r"^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?[iI]nf(inity)?|[nN]a[nN])\s*$",
    "boolean": r"^\s*([tT]rue|TRUE|[fF]alse|FALSE|0|1)\s*$",
    "date": r"^\s*\d{4}-\d{2}-\d{2}\s*$",
    "timestamp": r"^\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?\s*$",
    "time": r"^\s*\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*$",
}
"""What a text must look like to be read as a value, where a source has only texts."""


def fits(wanted: str, actual: str) -> bool:
    """Whether a column of type ``actual`` holds what ``wanted`` promises, by its type alone."""
    return actual == "null" or actual in FITS.get(wanted, {wanted})


@RULES.register("logicalType")
class LogicalType(RowRule):
    """Broken in every row when the column's type is another; an integer is a number.

    Where whole numbers are promised and the column is one of real numbers, the values that are not whole are counted; in a
    source that has only texts, those that do not parse; in a JSON text, those of another JSON type.
    """

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name, wanted = rule.column or "", str(rule.argument)
        actual = data.types[name]
        if wanted == "integer" and actual == "number":
            column = Column(name)
            return And((Not(IsNull(column)), Not(IsNaN(column)), Not(MultipleOf(column, 1.0))))
        if data.textual and actual == "string" and wanted in PARSES:
            return unmatched(name, PARSES[wanted])
        if f"{name}|type" in data.types:
            kinds = {"number": ("number", "integer"), "map": ("object",), "vector": ("array",)}.get(wanted, (wanted,))
            found = Column(f"{name}|type")
            return And((Not(IsNull(found)), Not(InSet(found, kinds))))
        return None

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        actual, wanted = seen.types[rule.column or ""], str(rule.argument)
        if seen.bad is not None:
            broken = super().judge(rule, seen)
            if broken is None:
                return None
            what = "are not whole numbers" if actual == "number" else f"cannot be read as {wanted}"
            return broken[0], {"type": actual, **broken[1]}, f"{broken[2]} {what}"
        if fits(wanted, actual):
            return None
        return seen.rows, {"type": actual}, f"the column is of type {actual}, not {wanted}"
