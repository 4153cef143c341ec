"""timezone, defaultTimezone: whether timestamps say their zone, and which one those have that do not."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from contracts.model import Data, Observation, Rule
from contracts.query import Query
from contracts.rules import RULES, Broken, RuleKind


@RULES.register("timezone")
class Timezone(RuleKind):
    """``true``: the column's type carries a zone; ``false``: it does not."""

    applies = frozenset(("timestamp", "time"))

    def query(self, rule: Rule, data: Data) -> Query | None:
        if (rule.column or "") not in data.natives:
            raise LookupError("the source does not say whether its timestamps have a zone")
        return None

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        native = str(seen.answer.get("native", ""))
        zoned = "tz" in native.lower() or "time zone" in native.lower() or "utc" in native.lower()
        if zoned is bool(rule.argument):
            return None
        return seen.rows, {"type": native}, f"the column is {native}: {'with' if zoned else 'without'} a time zone"


@RULES.register("defaultTimezone")
class DefaultTimezone(RuleKind):
    """The zone of timestamps without one: driftd reads those as UTC, so any other cannot be kept."""

    applies = frozenset(("timestamp", "time"))

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        native = str(seen.answer.get("native", ""))
        if "tz" in native.lower() or str(rule.argument) in ("UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT"):
            return None
        try:
            ZoneInfo(str(rule.argument))
        except (KeyError, ValueError, OSError):
            raise LookupError(f"{rule.argument!r} is no time zone") from None
        raise LookupError(f"timestamps without a zone are read as UTC here, not as {rule.argument}: log them with a zone")
