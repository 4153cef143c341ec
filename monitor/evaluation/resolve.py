"""Finding out what the configuration leaves open, from the data itself."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np

from checks.core.errors import ConfigError, SchemaError
from checks.core.window import Window, WindowGrid, format_duration
from monitor.arrow_types import to_micros
from monitor.config.model import MonitorConfig
from monitor.ports import Extent, Settings, Source
from monitor.sources import open_source

ENOUGH_ROWS = 500
REFERENCE_WINDOWS = 56
SEASONAL_REFERENCE = timedelta(weeks=8)
LOOK_BACK = timedelta(days=14)


def resolve(monitor: MonitorConfig, source: Source, now: datetime) -> Settings:
    """The settings of ``monitor``; errors name the monitor, the key and what the data has."""
    notes: list[str] = []
    types = source.types()
    for name, role in monitor.columns.roles.items():
        if name not in types:
            raise SchemaError(
                f"monitor {monitor.name}: columns.{role}: the source has no column {name!r}; it has {', '.join(types)}"
            )
    extent = source.extent(monitor.columns.timestamp)
    size = _size(monitor, source, extent, notes)
    grid = WindowGrid(size, monitor.window.timezone)
    if monitor.window.rollup is not None and monitor.window.rollup <= size:
        notes.append(f"window.rollup: no effect, as the windows are {format_duration(size)} already")
    start = _start(monitor, grid, extent, now, notes)
    since, until = _reference(monitor, grid, start)
    label = _labels(monitor)
    return Settings(
        size.total_seconds(), _lateness(monitor, extent, size, notes).total_seconds(), types, start, since, until, *label,
        tuple(notes),
    )


def _size(monitor: MonitorConfig, source: Source, extent: Extent, notes: list[str]) -> timedelta:
    if monitor.window.size != "auto":
        return timedelta(seconds=monitor.window.size.total_seconds())
    day = timedelta(days=1)
    if extent.last is None:
        notes.append("window.size: the source has no rows yet; 1d is taken")
        return day
    window = Window(extent.last - LOOK_BACK, extent.last + timedelta(microseconds=1))
    counts: dict[int, int] = {}
    name = monitor.columns.timestamp
    for batch in source.read([name], name, window):
        hours = to_micros(batch.column(name), name).drop_null().to_numpy(zero_copy_only=False) // 3_600_000_000
        for hour, count in zip(*np.unique(hours, return_counts=True), strict=True):
            counts[int(hour)] = counts.get(int(hour), 0) + int(count)
    median = float(np.median(list(counts.values()))) if counts else 0.0
    size = timedelta(hours=1) if median >= ENOUGH_ROWS else day
    notes.append(f"window.size: {format_duration(size)}, as an hour has {median:g} rows in the median")
    return size


def _lateness(monitor: MonitorConfig, extent: Extent, size: timedelta, notes: list[str]) -> timedelta:
    if monitor.window.lateness != "auto":
        return timedelta(seconds=monitor.window.lateness.total_seconds())
    if not extent.lags:
        return min(size, timedelta(hours=1))
    seconds = float(np.quantile(extent.lags, 0.99))
    lateness = min(timedelta(seconds=math.ceil(max(seconds, 0.0) / 60) * 60), size)
    notes.append(f"window.lateness: {format_duration(lateness)}, from when files were written (at most a window)")
    return lateness


def _start(monitor: MonitorConfig, grid: WindowGrid, extent: Extent, now: datetime, notes: list[str]) -> datetime:
    if monitor.start is not None:
        return grid.parse_start(monitor.start).start
    start = grid.midnight(grid.local_date(now))
    if extent.last is not None and extent.last < start - timedelta(days=1):
        after = grid.next(grid.at(extent.last)).start
        notes.append(
            f"start: {after.astimezone(UTC):%Y-%m-%d}, after the newest event of {extent.last:%Y-%m-%d}: the log is old; "
            "set start, or look back with driftd backfill"
        )
        return after
    notes.append(f"start: {start.astimezone(UTC):%Y-%m-%dT%H:%MZ}, the day of the first start")
    return start


def _reference(monitor: MonitorConfig, grid: WindowGrid, start: datetime) -> tuple[datetime, datetime]:
    reference = monitor.reference
    if reference.path is not None:
        return start, start
    until = grid.parse_start(reference.to).start if reference.to else start
    if reference.since:
        since = grid.parse_start(reference.since).start
        if since >= until:
            raise ConfigError(f"monitor {monitor.name}: reference: from {reference.since} is not before {until:%Y-%m-%d}")
        return since, until
    first = grid.back(grid.at(until), REFERENCE_WINDOWS).start
    if monitor.window.rollup is not None and monitor.window.rollup > grid.size:
        days = WindowGrid(timedelta(seconds=monitor.window.rollup.total_seconds()), monitor.window.timezone)
        first = min(first, days.back(days.at(until), REFERENCE_WINDOWS).start)
    if not grid.daily and monitor.drift.seasonality != "none":
        first = min(first, grid.at(until - SEASONAL_REFERENCE).start)
    return first, until


def _labels(monitor: MonitorConfig) -> tuple[str | None, str | None, str | None]:
    labels = monitor.labels
    if labels is None:
        return None, None, None
    types = open_source(labels.source).types()
    where = f"monitor {monitor.name}: labels"
    identifier = labels.id or monitor.columns.id or ""
    for key, name in (("id", identifier), ("label", labels.label), ("timestamp", labels.timestamp)):
        if name is not None and name not in types:
            raise SchemaError(f"{where}.{key}: the label source has no column {name!r}; it has {', '.join(types)}")
    times = [name for name, kind in types.items() if kind in ("timestamp", "date") and name != identifier]
    timestamp = labels.timestamp or (times[0] if len(times) == 1 else None)
    if labels.label:
        return identifier, labels.label, timestamp
    others = [name for name in types if name not in (identifier, timestamp, *times)]
    if len(others) != 1:
        raise SchemaError(f"{where}.label: name the label's column; candidates are {', '.join(others) or 'none'}")
    return identifier, others[0], timestamp
