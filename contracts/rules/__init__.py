"""How each kind of rule is counted and judged, one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from checks.core.expression import Expression
from checks.core.registry import Registry
from contracts.model import Data, Observation, Rule
from contracts.query import Query

Broken = tuple[int, Mapping[str, Any], str] | None
"""Bad rows, what was observed, and the reason; None when the rule holds."""

NUMBERS = frozenset(("number", "integer"))
TIMES = frozenset(("date", "timestamp", "time"))
TEXTS = frozenset(("string",))


class RuleKind(ABC):
    """A kind of rule: the predicate that is true of bad rows, or a query, and the judgement of what was observed.

    ``applies`` are the logical types that the rule has a meaning on, None for all. ``on_rows`` is false for rules that an
    empty window can break or satisfy.
    """

    applies: ClassVar[frozenset[str] | None] = None
    on_rows: ClassVar[bool] = True

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        """True of the rows that break ``rule``; None when the rule is not about single rows.

        `LookupError` with the reason where it has no meaning on this data.
        """
        return None

    def query(self, rule: Rule, data: Data) -> Query | None:
        """What has to be asked apart, or None; `LookupError` as for `predicate`."""
        return None

    @abstractmethod
    def judge(self, rule: Rule, seen: Observation) -> Broken:
        """What is broken, or None; raises `LookupError` where it cannot be known."""


RULES: Registry[type[RuleKind]] = Registry("contract rule", "contracts.rules", "driftd.rules")


class RowRule(RuleKind):
    """A rule about single rows: it is broken when its predicate counts any, or more than its tolerance.

    ``says`` is what the bad rows do, after their number.
    """

    says: ClassVar[str] = ""

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        bad = seen.bad or 0
        if not bad or (rule.tolerance and bad <= rule.tolerance * seen.considered):
            return None
        return bad, dict(seen.facts.get(rule.column or "", {})), f"{bad:,} of {seen.considered:,} rows {self.says}".rstrip()


class MetricRule(RuleKind):
    """A rule on a number of rows, or on their percentage, that its operators bound."""

    says: ClassVar[str] = "break it"

    def counted(self, rule: Rule, seen: Observation) -> int:
        """The number of rows that the metric counts."""
        return seen.bad or 0

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        if not rule.operators:
            raise LookupError("the rule has no operator such as mustBe")
        count = self.counted(rule, seen)
        if rule.percent and not seen.considered:
            raise LookupError("there are no rows to take a percentage of")
        value = 100 * count / seen.considered if rule.percent else count
        if holds(rule.operators, value):
            return None
        share = f", {value:.4g}%" if rule.percent else ""
        observed = {"percent" if rule.percent else "count": round(value, 6), **seen.facts.get(rule.column or "", {})}
        return count, observed, f"{count:,} of {seen.considered:,} rows {self.says}{share}"


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
