"""The only module that reads the time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

CLOCK_FILE = "DRIFTD_CLOCK_FILE"


class Clock(Protocol):
    """What the time is, in UTC, and a counter that never goes back, in seconds."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands until it is moved: for tests in one process and for the demo's simulation."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def move_to(self, moment: datetime) -> None:
        self._now = moment

    def advance(self, duration: timedelta) -> None:
        self._now += duration


class FileClock:
    """A clock whose time is the ISO text in a file, so that a test can move the time of other processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = datetime(1970, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        try:
            self._last = datetime.fromisoformat(self._path.read_text().strip())
        except (OSError, ValueError):  # the file is being replaced: the time stands still
            return self._last
        return self._last

    def monotonic(self) -> float:
        return time.monotonic()


def system_clock() -> Clock:
    """The machine's clock, or the one in the file that ``DRIFTD_CLOCK_FILE`` names."""
    path = os.environ.get(CLOCK_FILE)
    return FileClock(Path(path)) if path else SystemClock()


def stopwatch() -> float:
    """Seconds of a counter for measuring how long work took."""
    return time.perf_counter()
