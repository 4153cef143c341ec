"""What must be known before a monitor's first window: its settings, its binning, its reference windows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from checks.calibration.names import CORRELATION, ROWS
from checks.core.window import Window, WindowGrid
from monitor.config.model import MonitorConfig
from monitor.ports import BaselineWindow, ProfiledWindow, ReferenceAnswer, ReferenceJob, ResolveJob, Settings, Workers


@dataclass(frozen=True, slots=True)
class Prepared:
    """A monitor ready to evaluate windows.

    ``profiled`` holds its reference windows when they were just made and are not in the store.
    """

    monitor: MonitorConfig
    settings: Settings
    binning: str
    binning_hash: str
    reference: bytes
    key: bytes
    profiled: tuple[ProfiledWindow, ...] = field(default=())

    @property
    def grid(self) -> WindowGrid:
        return grid_of(self.monitor, self.settings)

    @property
    def lateness(self) -> timedelta:
        return timedelta(seconds=self.settings.lateness_seconds)

    @property
    def end(self) -> datetime | None:
        return self.grid.parse_start(self.monitor.end).start if self.monitor.end else None

    @property
    def baseline_windows(self) -> int:
        """How many windows the rolling baseline holds: 56, or 8 whole seasons."""
        if self.grid.daily or self.monitor.drift.seasonality == "none":
            return 56
        return max(56, 8 * round(168 * 3600 / self.settings.size_seconds))

    def baseline_before(self, before: datetime) -> tuple[BaselineWindow, ...]:
        """The baseline from the windows that were just made."""
        found = [BaselineWindow(p.window, 0, p.profile) for p in self.profiled if p.rows and p.window.end <= before]
        return tuple(found[-self.baseline_windows :])


def grid_of(monitor: MonitorConfig, settings: Settings) -> WindowGrid:
    """The windows of a monitor."""
    return WindowGrid(timedelta(seconds=settings.size_seconds), monitor.window.timezone)


def settings_key(monitor: MonitorConfig) -> str:
    """A hash of the configuration that settings and binning depend on; another one means a new beginning."""
    parts = {
        "source": monitor.source.model_dump(mode="json"), "columns": _columns(monitor),
        "window": monitor.window.model_dump(mode="json") | {"rollup": None}, "reference": monitor.reference.model_dump(mode="json"),
        "start": monitor.start,
        "labels": monitor.labels.model_dump(mode="json", include={"id", "label", "timestamp"}) if monitor.labels else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _columns(monitor: MonitorConfig) -> dict[str, object]:
    """The columns; what an older driftd did not know counts only where it is used."""
    named = monitor.columns.model_dump(mode="json")
    return named if named["weight"] is not None else {key: value for key, value in named.items() if key != "weight"}


def build(monitor: MonitorConfig, workers: Workers, key: bytes, now: datetime) -> Prepared:
    """Find out the settings, freeze the binning and profile the reference windows, silently."""
    settings: Settings = workers.run(ResolveJob(monitor, now))
    return build_reference(monitor, settings, workers, key)


def build_reference(monitor: MonitorConfig, settings: Settings, workers: Workers, key: bytes) -> Prepared:
    """The binning and the reference windows under known settings."""
    answer: ReferenceAnswer = workers.run(ReferenceJob(monitor, settings, key))
    return Prepared(monitor, settings, answer.binning, answer.hash, answer.total, key, answer.windows)


def unknown_columns(monitor: MonitorConfig, binning: str) -> list[str]:
    """The columns that ``drift.weights`` and ``drift.limits`` name and that the data does not have."""
    known = {c["name"] for c in json.loads(binning)["columns"]} | {ROWS, CORRELATION}
    limited = [name.partition("[")[2].removesuffix("]") for name in monitor.drift.limits if "[" in name]
    return [name for name in (*monitor.drift.weights, *limited) if name not in known]


def window_of(prepared: Prepared, text: str) -> Window:
    """The window that starts at the date or time ``text``."""
    return prepared.grid.parse_start(text)
