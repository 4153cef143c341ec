"""A contract as values: rules, what was observed, and what broke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from checks.core.expression import Expression
from checks.core.interval import wilson
from checks.core.result import Verdict

_SYMBOLS = {
    "minimum": ">= {}", "maximum": "<= {}", "exclusiveMinimum": "> {}", "exclusiveMaximum": "< {}", "required": "no nulls",
    "primaryKey": "no nulls", "pattern": "matches {}", "minLength": "length >= {}", "maxLength": "length <= {}",
    "missingColumn": "column is there", "extraColumn": "no other columns", "multipleOf": "multiple of {}", "format": "format {}",
    "minItems": ">= {} items", "maxItems": "<= {} items", "uniqueItems": "no item twice", "minProperties": ">= {} properties",
    "maxProperties": "<= {} properties", "dimensions": "{} dimensions", "unique": "no value twice", "uniqueKey": "no key twice",
    "keyHistory": "no key of the last {} again", "foreignKey": "a value of {}", "rowExpression": "{}",
}
_OPERATORS = {
    "mustBe": "= {}", "mustNotBe": "<> {}", "mustBeGreaterThan": "> {}", "mustBeGreaterOrEqualTo": ">= {}", "mustBeLessThan": "< {}",
    "mustBeLessOrEqualTo": "<= {}", "mustBeBetween": "in {}", "mustNotBeBetween": "not in {}",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause.

    Parameters
    ----------
    id : unique in the contract, ``column.kind`` or ``kind``, with ``#2`` and so on where a kind repeats.
    kind : the standard's own key: required, logicalType, minimum, pattern, enum, nullValues, rowCount, freshness, ...
    column : the column, or the path of a nested one (``address.city``, ``items[].price``); None for rules on rows.
    severity : `WARN` or `FAIL`.
    argument : what the rule compares with, as written.
    line : where it stands in the document, from 1.
    operators : ``mustBe`` and the like with their bounds; all must hold. ``percent`` says that they are of percent.
    where : the rows that the rule is about, None for all.
    tolerance : the share of rows that may break a rule that has no operators.
    columns : what a rule on several columns reads.
    written : the clause as it stands in the document.
    not_evaluated : why it cannot run, or empty; ``elsewhere`` when it is about an object that this monitor does not read.
    """

    id: str
    kind: str
    column: str | None
    severity: Verdict
    argument: Any
    line: int
    dimension: str = ""
    description: str = ""
    name: str = ""
    impact: str = ""
    operators: Mapping[str, Any] = field(default_factory=dict)
    percent: bool = False
    where: Expression | None = None
    tolerance: float = 0.0
    columns: tuple[str, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)
    not_evaluated: str = ""
    manual: bool = False
    elsewhere: bool = False

    @property
    def threshold(self) -> str:
        """The rule as a reader would write it."""
        if self.operators:
            unit = "%" if self.percent else ""
            return " and ".join(_OPERATORS.get(key, key + " {}").format(f"{value}{unit}") for key, value in self.operators.items())
        if self.kind == "enum":
            listed = [str(value) for value in self.argument]
            text = "one of " + ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
        elif isinstance(self.argument, Mapping) and "value" in self.argument:
            text = f"{self.argument['value']} {self.argument.get('unit', '')}".rstrip()
        else:
            text = _SYMBOLS.get(self.kind, "{}").format(self.argument)
        return text + (f", up to {100 * self.tolerance:g}% of rows excepted" if self.tolerance else "")


@dataclass(frozen=True, slots=True)
class Column:
    """A property of the contract's object, by its name or path in the data."""

    name: str
    logical_type: str | None
    classification: str | None
    line: int
    parent: str | None = None
    role: str | None = None
    mask: bool = True
    unit: str | None = None
    required: bool = False
    physical_type: str | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """One object of an ODCS document with everything that is promised of it.

    ``objects`` holds, for each object of the document, its names; ``timestamp`` the column with that role.
    """

    id: str
    version: str
    hash: str
    object: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    path: str = ""
    strict_columns: bool = False
    inferred: bool = False
    team: str = ""
    objects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def classified(self) -> frozenset[str]:
        """Columns with a classification: their values are never shown or stored."""
        return frozenset(column.name for column in self.columns if column.classification)

    @property
    def nested(self) -> tuple[Column, ...]:
        """The columns inside other columns."""
        return tuple(column for column in self.columns if column.parent is not None)

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def with_role(self, role: str) -> str | None:
        """The first column of a role."""
        return next((column.name for column in self.columns if column.role == role), None)

    def limited_to_warnings(self) -> Contract:
        """The same contract with every rule at warn, as for one that nobody has read yet."""
        return replace(self, rules=tuple(replace(rule, severity=Verdict.WARN) for rule in self.rules))


@dataclass(frozen=True, slots=True)
class Data:
    """What is known of the data before a row is read.

    ``types`` are logical types by column or path; ``natives`` the engine's own type texts where they are known;
    ``naive`` timestamp columns without a zone; ``textual`` says that the source has only texts, as CSV; ``nested`` are the paths among
    ``types``.
    """

    types: Mapping[str, str]
    as_of: datetime
    natives: Mapping[str, str] = field(default_factory=dict)
    naive: frozenset[str] = frozenset()
    textual: bool = False
    timestamp: str | None = None
    nested: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Observation:
    """What the scan saw of the window that a rule is judged on.

    ``bad`` is the count of the rule's predicate, None where it has none; ``scope`` the rows that its ``where`` selects;
    ``answer`` that of its query; ``types`` are logical types by column, from the data's own schema; ``last`` is the newest
    event; ``facts`` are minimum, maximum and missing by column.
    """

    rows: int
    as_of: datetime
    types: Mapping[str, str]
    last: datetime | None
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    bad: int | None = None
    scope: int | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)
    timestamp: str | None = None

    @property
    def considered(self) -> int:
        """The rows that the rule is about."""
        return self.rows if self.scope is None else self.scope


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

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95% interval of the fraction; None where the bad are no part of the rows."""
        return wilson(self.bad, self.rows) if 0 <= self.bad <= self.rows and self.rows else None


@dataclass(frozen=True, slots=True)
class NotEvaluated:
    """A rule that did not run, with the reason; ``manual`` rules are for people.

    ``explained`` says that something else tells of it already: a missing column, an empty window, another object.
    """

    rule: Rule
    reason: str
    error: bool = False
    explained: bool = False

    @property
    def status(self) -> str:
        """manual, error or not_evaluated."""
        return "manual" if self.rule.manual else "error" if self.error else "not_evaluated"


@dataclass(frozen=True, slots=True)
class ContractOutcome:
    """Every rule of a contract is in exactly one of the three lists' ids.

    ``apart`` names rules that the engine could not run and that were counted apart, with why.
    """

    passed: tuple[str, ...]
    violations: tuple[Violation, ...]
    not_evaluated: tuple[NotEvaluated, ...]
    apart: Mapping[str, str] = field(default_factory=dict)
