"""rowCount: how many rows a window may have."""

from __future__ import annotations

from contracts.model import Observation, Rule
from contracts.rules import RULES, Broken, RuleKind, holds


@RULES.register("rowCount")
class RowCount(RuleKind):
    """Broken when the window's rows, or those that `where` selects, do not satisfy the operators."""

    on_rows = False

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        if rule.percent:
            if rule.where is None:
                raise LookupError("a row count has no percentage without the custom property where")
            if not seen.rows:
                raise LookupError("the window is empty")
        value = 100 * seen.considered / seen.rows if rule.percent else seen.considered
        if holds(rule.operators, value):
            return None
        return seen.considered, {"rows": seen.considered}, f"{seen.considered:,} rows"
