"""freshness: how old the newest row may be when the window is judged."""

from __future__ import annotations

from datetime import timedelta

from checks.core.expression import Expression
from contracts.model import Observation, Rule
from contracts.rules import RULES, Broken

UNITS = {
    "s": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hour": 3600,
    "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}


@RULES.register("freshness")
class Freshness:
    """Broken when ``as_of`` less the newest event time is more than the value, fractions kept."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        return None

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        unit = str(rule.argument.get("unit", "d")).lower()
        if unit not in UNITS:
            raise LookupError(f"the unit {unit!r} is not one of s, m, h, d")
        allowed = timedelta(seconds=float(rule.argument["value"]) * UNITS[unit])
        if seen.last is None:
            raise LookupError("the window has no rows")
        age = seen.as_of - seen.last
        if age <= allowed:
            return None
        hours = age.total_seconds() / 3600
        return seen.rows, {"age_hours": round(hours, 2)}, f"the newest row is {hours:.1f} h old"
