"""What a window is judged against: its rolling baseline, what was accepted, and small windows that are carried into it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.core.window import Window
from monitor.alerting.fold import FORGET_AFTER
from monitor.ports import BaselineWindow, Rollup
from monitor.prepare import Prepared
from monitor.rollup import plan_rollup
from monitor.store import incidents, runs

CARRIED = 14
"""At most so many small windows are carried into one."""
WIDEN = 1.5
"""What every false alarm multiplies the chances of alarm by, in the judgement of later windows."""
MOST_FALSE = 6
BY_HAND = ("accepted", "false alarm")
"""The reasons of incidents that were open when a person accepted them."""


@dataclass(frozen=True, slots=True)
class History:
    """The parts of a `monitor.ports.RunJob` that come from earlier windows."""

    baseline: tuple[BaselineWindow, ...]
    rollup: Rollup | None = None
    carried: tuple[BaselineWindow, ...] = ()
    accepted: tuple[tuple[datetime, tuple[str, ...] | None], ...] = ()
    widen: float = 1.0


def history_of(connection: Connection, prepared: Prepared, window: Window) -> History:
    """The history of ``window`` from the store.

    Windows of a drift or data incident are no part of the baseline, unless a person accepted them or the level has lasted
    for `FORGET_AFTER` windows; both make it normal from its first window on.
    """
    name, before = prepared.monitor.name, window.start
    known = [a for a in incidents.acceptances(connection, name) if a.until < before]
    found = incidents.spans(connection, name)
    # Only what was open when a person spoke has a level; an incident that ended by itself was an event.
    ended = {s.id for s in found if s.reason in BY_HAND}
    moved = [a for a in known if a.incident_id in ended]
    taken = {a.incident_id for a in moved}
    left_out = [
        (s.first, s.closed or max(s.last + timedelta(microseconds=1), before)) for s in found
        if s.id not in taken and not (s.windows >= FORGET_AFTER and s.family == "drift") and s.first < before
    ]
    # What is held back for want of a token must not be learned before a token comes, nor be left out for ever; nor what came late.
    since = prepared.grid.back(window, FORGET_AFTER).start
    normal = [(s.first, s.closed or s.last) for s in found if s.id in taken or (s.windows >= FORGET_AFTER and s.family == "drift")]
    left_out += [
        (start, start + timedelta(microseconds=1)) for start in runs.unusual(connection, name, since, before)
        if not any(first <= start <= last for first, last in normal)
    ]
    accepted = [(a.since, tuple(a.columns) if a.columns else None) for a in moved]
    accepted += [(s.first, None) for s in found if s.family == "drift" and s.reason == "new normal" and s.id not in taken and s.last < before]
    false = sum(a.kind == "false-alarm" for a in known)
    baseline = runs.baseline(connection, name, prepared.binning_hash, before, prepared.baseline_windows, left_out)
    carried = runs.small_before(connection, name, prepared.binning_hash, before, prepared.monitor.drift.min_rows, CARRIED)
    return History(
        baseline, plan_rollup(connection, prepared, window, left_out), carried, tuple(accepted), WIDEN ** min(false, MOST_FALSE)
    )


def pinned(history: History) -> dict[str, Any]:
    """What a run keeps of its history beside the baseline, to be judged the same way again."""
    return {
        "carried": [[w.window.start.isoformat(), w.revision] for w in history.carried],
        "accepted": [[since.isoformat(), list(columns) if columns else None] for since, columns in history.accepted], "widen": history.widen,
    }


def unpinned(connection: Connection, name: str, history: History, run: Row[Any]) -> History:
    """The history that a stored run was judged against, as far as its profiles are still kept."""
    kept = (run.plan or {}).get("pinned", {})
    return replace(
        history, baseline=runs.baseline_of(connection, name, run.baseline), carried=runs.baseline_of(connection, name, kept.get("carried", [])),
        accepted=tuple((datetime.fromisoformat(since), tuple(columns) if columns else None) for since, columns in kept.get("accepted", [])),
        widen=float(kept.get("widen", 1.0)),
    )
