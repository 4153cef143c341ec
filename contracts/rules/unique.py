"""unique, the primary key as a whole, duplicateValues: no key twice, counted exactly."""

from __future__ import annotations

from contracts.model import Data, Observation, Rule
from contracts.query import Duplicates, Query
from contracts.rules import RULES, Broken, MetricRule


class _Unique(MetricRule):
    def query(self, rule: Rule, data: Data) -> Query | None:
        return Duplicates(rule.columns or (rule.column or "",))

    def counted(self, rule: Rule, seen: Observation) -> int:
        return int(seen.answer["surplus"])

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        surplus = self.counted(rule, seen)
        if rule.operators:
            broken = super().judge(rule, seen)
        else:
            broken = (surplus, {}, "") if surplus > rule.tolerance * seen.considered else None
        if broken is None:
            return None
        keys, rows = int(seen.answer["keys"]), int(seen.answer["rows"])
        share = f" ({100 * surplus / seen.considered:.4g}%)" if rule.percent and seen.considered else ""
        observed = {**broken[1], "surplus": surplus, "keys": keys, "rows": rows}
        many, which = "row" if surplus == 1 else "rows", "key is" if keys == 1 else "keys are"
        return surplus, observed, f"{surplus:,} {many} too many{share}: {keys:,} {which} in {rows:,} rows"


@RULES.register("unique")
class Unique(_Unique):
    """Broken by any row that repeats a value; null and NaN repeat nothing."""


@RULES.register("uniqueKey")
class UniqueKey(_Unique):
    """The primary key as a whole: broken by any row that repeats the combination."""


@RULES.register("duplicateValues")
class DuplicateValues(_Unique):
    """The surplus rows, rows less distinct keys, as the operators bound them."""
