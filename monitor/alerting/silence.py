"""Whether a source has fallen silent between windows."""

from __future__ import annotations

from datetime import datetime, timedelta

LEAST = timedelta(minutes=30)


def silent_since(
    newest: datetime | None, now: datetime, usual_gap: timedelta, silent_after: timedelta | None, end: datetime | None,
) -> datetime | None:
    """Since when the source is silent, or None.

    ``silent_after`` is the owner's limit; without one it is three times the usual gap between events (for batch logs,
    between writes), at least half an hour. After the monitor's ``end`` nothing is expected.
    """
    if newest is None or (end is not None and (newest >= end or now >= end)):
        return None
    limit = silent_after or max(3 * usual_gap, LEAST)
    return newest if now - newest > limit else None
