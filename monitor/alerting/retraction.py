"""What is known by now of the windows of an incident that the fold does not find any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from monitor.alerting.fold import DRIVER, WindowResults

UNSETTLED = ("waiting", "provisional", "estimated", "deferred")


def settled(first: datetime, last: datetime, members: Collection[str], windows: Sequence[WindowResults]) -> bool:
    """Whether every result that could have fired an incident of ``members`` from ``first`` to ``last`` is known, so that the fold is
    right to find none.

    A result that is not known any more, or rests on labels that are not final, settles nothing: the incident stays as it is.
    """
    for item in windows:
        if not first <= item.window.start <= last:
            continue
        found = {r.rule: r for r in item.results if r.state != DRIVER}
        for rule in members:
            result = found.get(rule)
            if result is not None and (result.verdict not in ("pass", "warn", "fail") or result.state in UNSETTLED):
                return False
        if not found.keys() & set(members):
            return False
    return True


def passed_since(last: datetime, members: Collection[str], windows: Sequence[WindowResults]) -> int:
    """How many windows in a row, the newest ones, hold after the ``last`` breach of an incident: each with a known pass of its rules
    beyond the limit that clears, and no breach."""
    good = 0
    for item in windows:
        if item.window.start <= last:
            continue
        found = [r for r in item.results if r.rule in members and r.state != DRIVER]
        if any(r.verdict in ("warn", "fail") for r in found):
            good = 0
        elif any(r.verdict == "pass" for r in found):
            good += all(r.cleared for r in found if r.verdict == "pass")
    return good


def unknown_for(members: Collection[str], windows: Sequence[WindowResults]) -> int:
    """How many windows in a row, the newest ones, say nothing of an incident's rules."""
    count = 0
    for item in reversed(windows):
        if any(r.rule in members and r.state != DRIVER and r.verdict in ("pass", "warn", "fail") for r in item.results):
            break
        count += 1
    return count
