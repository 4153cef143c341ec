"""A contract as values: rules, what was observed, and what broke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from checks.core.result import Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause.

    Parameters
    ----------
    id : unique in the contract, ``column.kind`` or ``kind``, with ``#2`` and so on where a kind repeats.
    kind : the standard's own key: required, logicalType, minimum, pattern, enum, rowCount, freshness, ...
    severity : `WARN` or `FAIL`.
    argument : what the rule compares with, as written.
    line : where it stands in the document, from 1.
    not_evaluated : why it cannot run, or empty.
    """

    id: str
    kind: str
    column: str | None
    severity: Verdict
    argument: Any
    line: int
    dimension: str = ""
    description: str = ""
    not_evaluated: str = ""
    manual: bool = False

    @property
    def threshold(self) -> str:
        """The rule as a reader would write it."""
        symbols = {
            "minimum": ">= {}", "maximum": "<= {}", "exclusiveMinimum": "> {}", "exclusiveMaximum": "< {}",
            "required": "no nulls", "pattern": "matches {}", "minLength": "length >= {}", "maxLength": "length <= {}",
            "missingColumn": "column is there", "extraColumn": "no other columns",
        }
        if self.kind in symbols:
            return symbols[self.kind].format(self.argument)
        if self.kind == "enum":
            listed = [str(value) for value in self.argument]
            return "one of " + ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
        if isinstance(self.argument, Mapping):
            return ", ".join(f"{key} {value}" for key, value in self.argument.items())
        return str(self.argument)


@dataclass(frozen=True, slots=True)
class Column:
    """A property of the contract's object, by its name in the data."""

    name: str
    logical_type: str | None
    classification: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Contract:
    """One object of an ODCS document with everything that is promised of it."""

    id: str
    version: str
    hash: str
    object: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    path: str = ""
    strict_columns: bool = False
    inferred: bool = False

    @property
    def classified(self) -> frozenset[str]:
        """Columns with a classification: their values are never shown or stored."""
        return frozenset(column.name for column in self.columns if column.classification)

    def limited_to_warnings(self) -> Contract:
        """The same contract with every rule at warn, as for one that nobody has read yet."""
        from dataclasses import replace

        return replace(self, rules=tuple(replace(rule, severity=Verdict.WARN) for rule in self.rules))


@dataclass(frozen=True, slots=True)
class Observation:
    """What the scan saw of the window that a rule is judged on.

    ``bad`` is the count of the rule's predicate, None where it has none; ``types`` are logical types by column, from
    the data's own schema; ``last`` is the newest event; ``facts`` are minimum, maximum and missing by column.
    """

    rows: int
    as_of: datetime
    types: Mapping[str, str]
    last: datetime | None
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    bad: int | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that broke in one window."""

    rule: Rule
    bad: int
    rows: int
    observed: Mapping[str, Any]
    verdict: Verdict
    reason: str = ""

    @property
    def fraction(self) -> float:
        return self.bad / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class NotEvaluated:
    """A rule that did not run, with the reason; ``manual`` rules are for people."""

    rule: Rule
    reason: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class ContractOutcome:
    """Every rule of a contract is in exactly one of the three lists' ids."""

    passed: tuple[str, ...]
    violations: tuple[Violation, ...]
    not_evaluated: tuple[NotEvaluated, ...]
