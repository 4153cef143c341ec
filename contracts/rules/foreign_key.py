"""foreignKey: every value is one of another object of the contract."""

from __future__ import annotations

from contracts.model import Data, Observation, Rule
from contracts.query import ForeignKey, Query
from contracts.rules import RULES, Broken, RuleKind


@RULES.register("foreignKey")
class ForeignKeyRule(RuleKind):
    """Bad rows hold a key, without nulls, that the object referred to does not have."""

    def query(self, rule: Rule, data: Data) -> Query | None:
        return ForeignKey(rule.columns or (rule.column or "",), str(rule.written["object"]), tuple(rule.written["columns"]))

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        bad = int(seen.answer["bad"])
        if bad <= rule.tolerance * seen.considered:
            return None
        keys = int(seen.answer["keys"])
        return bad, {"keys": keys}, f"{bad:,} of {seen.considered:,} rows refer to {keys:,} keys that {rule.argument} does not have"
