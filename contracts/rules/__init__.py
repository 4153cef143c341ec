"""How each kind of rule is counted and judged, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from checks.core.expression import Expression
from checks.core.registry import Registry
from contracts.model import Observation, Rule

Broken = tuple[int, Mapping[str, Any], str] | None
"""Bad rows, what was observed, and the reason; None when the rule holds."""


class RuleKind(Protocol):
    """A kind of rule: the predicate that is true of bad rows, and the judgement of what was observed."""

    def predicate(self, rule: Rule, logical_type: str) -> Expression | None:
        """True of the rows that break ``rule``; None when the rule is not about single rows."""
        ...

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        """What is broken, or None; raises `LookupError` where it cannot be known."""
        ...


RULES: Registry[type[RuleKind]] = Registry("contract rule", "contracts.rules", "driftd.rules")


class RowRule:
    """A rule about single rows: it is broken when its predicate counts any."""

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        if not seen.bad:
            return None
        return seen.bad, dict(seen.facts.get(rule.column or "", {})), f"{seen.bad} of {seen.rows} rows"
