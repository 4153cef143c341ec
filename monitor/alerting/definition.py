"""One limit of a rule told from another, so that a changed rule begins a streak of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from monitor.ports import RuleResult


def digest(value: Any) -> str:
    """A short name of a limit."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def defined(results: Sequence[RuleResult], limits: Mapping[str, Mapping[str, Any]]) -> list[RuleResult]:
    """The results with the definition of their rules; those of a contract have theirs.

    ``limits`` are by family (quality, service, drift) the owner's limits by the name they stand under in the configuration.
    """
    found = []
    for result in results:
        name = result.rule.partition(".")[2]
        own = limits.get(result.family, {})
        limit = own.get(name) or own.get(name.partition("[")[0])
        definition = digest(limit) if limit is not None else ""
        found.append(replace(result, definition=definition) if definition else result)
    return found
