"""What contracts, drift and quality need of one window, merged into one scan."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.core.binning import Binning, ColumnBinning
from checks.core.expression import Column, Compare, Expression, Literal, columns
from monitor.config.model import MonitorConfig
from monitor.profiling.nested import top_of

ERRORS = "service.errors"
"""The internal rule that counts answers with a server error."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One scan: the binning, the predicates to count, and which columns are read.

    ``key`` keys the hashes of category texts that may not be stored. ``slices`` cut the joint counts of score, prediction
    and label, which ``outputs`` asks for; ``cross`` asks for the cross products of the numeric features; ``nested`` are the
    logical types of the paths inside columns that the rules read. Rows of a ``shadow`` version were not served: they do not count.
    """

    binning: Binning
    rules: Mapping[str, Expression] = field(default_factory=dict)
    version: str | None = None
    timestamp: str = ""
    key: bytes = b""
    slices: tuple[tuple[str, ...], ...] = ()
    outputs: bool = False
    cross: bool = True
    nested: Mapping[str, str] = field(default_factory=dict)
    shadow: frozenset[str] = frozenset()

    def columns(self, available: Mapping[str, str]) -> list[str]:
        """The columns that the scan reads, of those that are there."""
        wanted = [c.name for c in self.binning.columns]
        for predicate in self.rules.values():
            wanted += sorted(columns(predicate))
        if self.version:
            wanted.append(self.version)
        if self.nested:
            wanted = [name if name in available else top_of(name, available) or name for name in wanted]
        return [name for name in dict.fromkeys(wanted) if name in available]

    def inside(self, expression: Expression, available: Collection[str]) -> bool:
        """Whether ``expression`` reads a path inside a column."""
        return bool(self.nested) and any(name in self.nested and name not in available for name in columns(expression))

    @property
    def dictionaries(self) -> frozenset[str]:
        """The columns that the scan reads best dictionary-encoded."""
        return frozenset(c.name for c in self.binning.columns if c.kind == "category") | ({self.version} if self.version else set())

    def lineage(self, types: Mapping[str, str]) -> dict[str, Any]:
        """What is stored with a profile, to know later whether it still answers: digests of the rules, slices, types."""
        rules = {rule: digest_of(expression) for rule, expression in self.rules.items()}
        return {"rules": rules, "slices": [list(group) for group in self.slices], "types": dict(types)}


def digest_of(value: Any) -> str:
    """A short text that is equal for equal predicates and queries."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


def changes(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In words, what ``wanted`` needs that a scan with the lineage ``stored`` did not count."""
    if not stored:
        return ["the window was scanned by a driftd that did not keep its plan"]
    rules, slices = stored.get("rules", {}), stored.get("slices", [])
    found = [f"rule {rule} is new" for rule in wanted["rules"] if rule not in rules]
    found += [f"what rule {rule} counts has changed" for rule, digest in wanted["rules"].items() if rules.get(rule, digest) != digest]
    asked = stored.get("queries", {})
    found += [f"what rule {rule} asks has changed" for rule, digest in wanted.get("queries", {}).items() if asked.get(rule) != digest]
    found += [f"slice {' & '.join(group)} is new" for group in wanted["slices"] if group not in slices]
    known, needed = stored.get("quality"), wanted.get("quality", {})
    if known is None:  # a driftd that kept nothing of it counted whole columns, and no metrics of the owner
        known = {"cuts": [" & ".join(group) for group in slices], "custom": {}}
    found += [f"slice {title} is new" for title in needed.get("cuts", []) if title not in known["cuts"] and f"slice {title} is new" not in found]
    return found + [
        f"custom metric {name} is new, or computes something else" for name, text in needed.get("custom", {}).items() if known["custom"].get(name) != text
    ]


def service_rules(monitor: MonitorConfig, types: Mapping[str, str]) -> dict[str, Expression]:
    """The predicates of the service section."""
    status = monitor.columns.status
    if status is None or types.get(status) not in ("integer", "number"):
        return {}
    return {ERRORS: Compare(">=", Column(status), Literal(500))}


def private_category(text: str, key: bytes) -> str:
    """A category text as a keyed hash: ``#`` and 12 hex digits."""
    return "#" + hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]


def unreadable_columns(plan: Plan, types: Mapping[str, str]) -> dict[str, str]:
    """Which columns of the binning are missing or of a type that cannot be binned, and why."""
    found = {}
    for column in plan.binning.columns:
        actual = types.get(column.name)
        if types and actual is None:
            found[column.name] = "the column is missing"
        elif actual is not None and not _fits(column, actual):
            found[column.name] = f"the column is of type {actual}, the reference had {column.kind} values"
    return found


def _fits(column: ColumnBinning, actual: str) -> bool:
    if actual == "null":
        return True
    if column.kind == "numeric":
        return actual in ("number", "integer")
    if column.kind == "text":
        return actual == "string"
    return actual in ("string", "boolean", "integer")
