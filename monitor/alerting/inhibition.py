"""What a broken window or column makes unknowable: computed, shown, and no cause of an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from checks.core.result import Verdict
from monitor.ports import RuleResult

WHOLE = ("service.no_data", "service.error")
STRUCTURAL = ("unreadable", "mostly_missing")


def inhibit(results: Sequence[RuleResult], broken: Sequence[str] = ()) -> list[RuleResult]:
    """The results with every breach inhibited that something graver explains.

    A window without data, or in error, inhibits all its rules; ``broken`` columns (missing, or of another type) inhibit only
    what reads them, and never the structural finding itself. Value violations inhibit nothing: they corroborate.
    """
    whole = any(r.rule in WHOLE and Verdict(r.verdict).breach for r in results)
    found = []
    for result in results:
        breach = Verdict(result.verdict).breach
        own = result.rule.startswith("service.") if whole else result.family in ("data", "service", "contract")
        reads = whole or result.column in broken
        found.append(replace(result, verdict="inhibited") if breach and reads and not own else result)
    return found
