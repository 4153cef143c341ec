"""rowCount: how many rows a window may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checks.core.expression import Expression
from contracts.model import Observation, Rule
from contracts.rules import RULES, Broken


def holds(operators: Mapping[str, Any], value: float) -> bool:
    """Whether ``value`` satisfies every operator of a quality rule; mustBeBetween is inclusive."""
    for operator, bound in operators.items():
        match operator:
            case "mustBe":
                good = value == bound
            case "mustNotBe":
                good = value != bound
            case "mustBeGreaterThan":
                good = value > bound
            case "mustBeGreaterOrEqualTo":
                good = value >= bound
            case "mustBeLessThan":
                good = value < bound
            case "mustBeLessOrEqualTo":
                good = value <= bound
            case "mustBeBetween":
                good = bound[0] <= value <= bound[1]
            case "mustNotBeBetween":
                good = not bound[0] <= value <= bound[1]
            case _:
                raise LookupError(f"the operator {operator!r} is not known")
        if not good:
            return False
    return True


@RULES.register("rowCount")
class RowCount:
    """Broken when the window's rows do not satisfy the operators."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        return None

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        if holds(rule.argument, seen.rows):
            return None
        return seen.rows, {"rows": seen.rows}, f"{seen.rows} rows"
