"""Which windows are due: pure functions of the grid, the time and what was evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from checks.core.window import Window, WindowGrid

LABEL_AGES = tuple(timedelta(days=days) for days in (1, 3, 7, 14, 30, 60, 90))
LABEL_RISE = 0.05


def due_windows(
    grid: WindowGrid, start: datetime, end: datetime | None, lateness: timedelta, now: datetime,
    evaluated: Mapping[datetime, tuple[str, datetime | None]],
) -> list[Window]:
    """The closed windows from ``start`` to ``end`` that have no run, or one in error whose time of retry has come."""
    until = min(now - lateness, end) if end is not None else now - lateness
    due = []
    for window in grid.between(start, until):
        if window.end > until:
            break
        known = evaluated.get(window.start)
        if known is None or (known[0] == "error" and known[1] is not None and known[1] <= now):
            due.append(window)
    return due


def label_check_due(end: datetime, checked: datetime | None, now: datetime) -> bool:
    """Whether an age at which labels are counted again has passed since they were counted last."""
    return any((checked is None or checked < end + age) and end + age <= now for age in LABEL_AGES)


def labels_due(
    windows: Sequence[tuple[Window, float, datetime | None]], shares: Mapping[datetime, float], now: datetime, give_up: timedelta,
) -> list[Window]:
    """The windows whose labels are to be counted again: the share rose by 5 points, or an age has come."""
    due = []
    for window, labelled, checked in windows:
        rose = shares.get(window.start, labelled) - labelled >= LABEL_RISE
        if rose or (label_check_due(window.end, checked, now) and now - window.end <= give_up + timedelta(days=1)):
            due.append(window)
    return due


def retry_wait(attempts: int) -> timedelta:
    """How long a window in error waits: 1, 2, 4 .. minutes, at most 6 hours."""
    return timedelta(minutes=min(2.0 ** min(attempts - 1, 20), 360.0))


def as_of(now: datetime, window: Window, lateness: timedelta) -> datetime:
    """What checks take for now: replays judge as the day itself would have."""
    return min(now, window.end + lateness)
