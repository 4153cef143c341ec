"""physicalType: the family of the database's own type."""

from __future__ import annotations

import re

from contracts.model import Observation, Rule
from contracts.rules import RULES, Broken, RuleKind

FAMILIES: tuple[tuple[str, frozenset[str]], ...] = (
    (r"^(var)?char|^n(var)?char|^character|text$|^clob|^string|^str$|^uuid$|^utf8|^citext|^enum|^large_string", frozenset(("string",))),
    (r"^u?(tiny|small|medium|big|huge)?int(eger)?\d*$|^u?int\d+$|^(small|big)?serial|^long$|^short$|^byte(int)?$|^number\(\d+,? ?0\)$|^int[248]$", frozenset(("integer",))),
    (r"^float|^double|^real$|^decimal|^numeric|^number|^half|^money$", frozenset(("number", "integer"))),
    (r"^bool", frozenset(("boolean",))),
    (r"^timestamp|^datetime|^smalldatetime", frozenset(("timestamp",))),
    (r"^date", frozenset(("date",))),
    (r"^time", frozenset(("time",))),
    (r"^array|^list|\[\]$|^vector", frozenset(("array",))),
    (r"^struct|^record|^row\b|^map|^object|^json|^variant|^super$", frozenset(("object", "string", "array"))),
)


def family(physical: str) -> frozenset[str] | None:
    """The logical types that columns of a physical type have, None where its name is not known."""
    text = re.sub(r"<.*>$", "", physical.strip().lower())
    plain = re.sub(r"\s+", " ", text)
    bare = re.sub(r"\([^)]*\)", "", plain).strip()
    for pattern, kinds in FAMILIES:
        if re.search(pattern, plain) or re.search(pattern, bare):
            return kinds
    return None


@RULES.register("physicalType")
class PhysicalType(RuleKind):
    """Broken when the column is of another family than the physical type; widths and precisions are not compared."""

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        wanted, actual = family(str(rule.argument)), seen.types[rule.column or ""]
        if wanted is None:
            raise LookupError(f"the physical type {rule.argument!r} is none whose family driftd knows")
        if actual == "null" or actual in wanted:
            return None
        return seen.rows, {"type": actual}, f"the column is of type {actual}, not {rule.argument}"
