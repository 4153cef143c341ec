"""Hourly windows and the days they make: what a run is given so that drift is decided on whole days."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from checks.core.errors import PlanChanged
from checks.core.window import Window, WindowGrid
from monitor.config.model import MonitorConfig
from monitor.ports import BaselineWindow, Day, Rollup, Settings
from monitor.prepare import Prepared
from monitor.store import runs

BASELINE_DAYS = 56


def rollup_grid(monitor: MonitorConfig, settings: Settings) -> WindowGrid | None:
    """The days (or other whole) into which the windows merge; None where windows are judged as they are."""
    size = monitor.window.rollup
    if size is None or size.total_seconds() <= settings.size_seconds:
        return None
    return WindowGrid(timedelta(seconds=size.total_seconds()), monitor.window.timezone)


def last_of_day(prepared: Prepared, window: Window) -> Window | None:
    """The last window of the day of ``window``; None without a rollup."""
    grid = rollup_grid(prepared.monitor, prepared.settings)
    return None if grid is None else prepared.grid.at(grid.at(window.start).end - timedelta(microseconds=1))


def defer(prepared: Prepared, window: Window) -> Rollup | None:
    """What a run of ``window`` is given that cannot decide its day; None without a rollup."""
    grid = rollup_grid(prepared.monitor, prepared.settings)
    return None if grid is None else Rollup(False, Day(grid.at(window.start), ()))


def plan_rollup(
    connection: Connection, prepared: Prepared, window: Window, left_out: list[tuple[datetime, datetime]],
) -> Rollup | None:
    """What the run of ``window`` needs to decide its day; None without a rollup."""
    grid = rollup_grid(prepared.monitor, prepared.settings)
    if grid is None:
        return None
    day = grid.at(window.start)
    if window != last_of_day(prepared, window):
        return defer(prepared, window)
    name, binning = prepared.monitor.name, prepared.binning_hash
    there = runs.pieces(connection, name, binning, day.start, window.start)
    expected = sum(1 for _ in prepared.grid.between(day.start, window.start))
    if len(there) < expected and runs.rolled(connection, name, binning, day.start):
        raise PlanChanged(f"monitor {name}: {day}: some of its windows' profiles are forgotten; the merged day stays as it is")
    days = {d.window.start: d for d in runs.merged_days(connection, name, binning, day.start, BASELINE_DAYS)}
    if len(days) < BASELINE_DAYS:  # days of before the rollup was wanted, or of the reference
        first = day.start - BASELINE_DAYS * grid.size - timedelta(days=1)
        whole: dict[Window, list[BaselineWindow]] = {}
        for piece in runs.pieces(connection, name, binning, first, day.start):
            whole.setdefault(grid.at(piece.window.start), []).append(piece)
        for span, found in whole.items():
            if span.start not in days and len(found) == sum(1 for _ in prepared.grid.between(span.start, span.end)):
                days[span.start] = Day(span, tuple(p.profile for p in found))
    spans = [(grid.at(a).start, grid.at(b - timedelta(microseconds=1)).end) for a, b in left_out]  # whole days
    kept = [days[start] for start in sorted(days) if not any(a <= start < b for a, b in spans)]
    today = Day(day, tuple(p.profile for p in there))
    return Rollup(True, today, tuple(kept[-BASELINE_DAYS:]), expected - len(there))
