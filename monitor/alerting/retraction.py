"""Whether a breach that was announced is known to have been none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from monitor.alerting.fold import DRIVER, WindowResults

UNSETTLED = ("waiting", "provisional", "estimated", "deferred")


def refuted(first: datetime, last: datetime, members: Collection[str], windows: Sequence[WindowResults]) -> bool:
    """Whether every result that could have fired an incident of ``members`` from ``first`` to ``last`` is a pass now.

    A result that is not known any more, or rests on labels that are not final, refutes nothing: the incident stays as it is.
    """
    for item in windows:
        if not first <= item.window.start <= last:
            continue
        found = {r.rule: r for r in item.results if r.state != DRIVER}
        for rule in members:
            result = found.get(rule)
            if result is not None and (result.verdict != "pass" or result.state in UNSETTLED):
                return False
        if not found.keys() & set(members):
            return False
    return True


def passed_since(last: datetime, members: Collection[str], windows: Sequence[WindowResults]) -> int:
    """How many windows in a row, the newest ones, hold after the ``last`` breach of an incident: each with a known pass of its rules, and no breach."""
    good = 0
    for item in windows:
        if item.window.start <= last:
            continue
        verdicts = {r.verdict for r in item.results if r.rule in members and r.state != DRIVER}
        if verdicts & {"warn", "fail"}:
            good = 0
        elif "pass" in verdicts:
            good += 1
    return good
