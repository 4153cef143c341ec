"""Windows of event time: half-open, kept in UTC, laid out on the local days of a time zone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from checks.core.errors import ConfigError

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_duration(text: str | int | float) -> timedelta:
    """The duration that a text such as ``90s``, ``5m``, ``1.5h``, ``14d`` or ``2w`` names."""
    match = _DURATION.match(str(text))
    if match is None:
        raise ConfigError(f"{text!r} is not a duration; allowed is a number with s, m, h, d or w, such as 1h or 14d")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as ``duration``."""
    seconds = duration.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return f"{seconds:g}s"


def iso(moment: datetime) -> str:
    """A UTC time as ``2013-07-01T04:00:00Z``; fractions of a second only where there are some."""
    moment = moment.astimezone(UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment.microsecond:06d}Z" if moment.microsecond else f"{text}Z"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The half-open interval ``[start, end)`` of event time, both in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a window needs times with a time zone")
        if self.end <= self.start:
            raise ValueError(f"a window must end after its start: {self.start} .. {self.end}")

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def __str__(self) -> str:
        return f"[{iso(self.start)}, {iso(self.end)})"


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """The windows of a monitor: local days, or equal parts of them, of one time zone.

    ``size`` is a whole number of days, or divides a day; on the days when clocks change a daily window has 23 or 25
    hours and an hourly one stays an hour of absolute time.
    """

    size: timedelta
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        day = timedelta(days=1)
        if self.size <= timedelta(0):
            raise ConfigError("window.size must be positive")
        if self.size % day != timedelta(0) and day % self.size != timedelta(0):
            raise ConfigError(
                f"window.size {format_duration(self.size)} must be whole days or divide a day, such as 15m, 1h, 6h, 1d"
            )

    @property
    def daily(self) -> bool:
        return self.size >= timedelta(days=1)

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(0), ZoneInfo(self.timezone)).astimezone(UTC)

    def at(self, moment: datetime) -> Window:
        """The window that holds ``moment``."""
        if self.daily:
            days = self.size // timedelta(days=1)
            local = moment.astimezone(ZoneInfo(self.timezone)).date()
            first = date.fromordinal(local.toordinal() - local.toordinal() % days) if days > 1 else local
            return Window(self._midnight(first), self._midnight(first + timedelta(days=days)))
        if self.size <= timedelta(hours=1):
            start = moment - ((moment - _EPOCH) % self.size)
            return Window(start.astimezone(UTC), (start + self.size).astimezone(UTC))
        local = moment.astimezone(ZoneInfo(self.timezone))
        wall = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        part = wall // self.size
        return Window(self._wall(local.date(), part), self._wall(local.date(), part + 1))

    def _wall(self, day: date, part: int) -> datetime:
        wall = datetime.combine(day, time(0)) + part * self.size
        return wall.replace(tzinfo=ZoneInfo(self.timezone)).astimezone(UTC)

    def next(self, window: Window) -> Window:
        """The window that follows."""
        return self.at(window.end)

    def previous(self, window: Window) -> Window:
        """The window that comes before."""
        return self.at(window.start - timedelta(microseconds=1))

    def between(self, start: datetime, end: datetime) -> Iterator[Window]:
        """The windows that start in ``[start, end)``, in order."""
        window = self.at(start)
        if window.start < start:
            window = self.next(window)
        while window.start < end:
            yield window
            window = self.next(window)

    def back(self, window: Window, count: int) -> Window:
        """The window ``count`` places before ``window``."""
        for _ in range(count):
            window = self.previous(window)
        return window

    def parse_start(self, text: str) -> Window:
        """The window that starts at ``text``, a date in the grid's time zone or an ISO time."""
        try:
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
                return self.at(self._midnight(date.fromisoformat(text)))
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ConfigError(f"{text!r} is neither a date (2013-07-01) nor an ISO time: {error}") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(self.timezone))
        return self.at(moment.astimezone(UTC))

    def midnight(self, day: date) -> datetime:
        """The first moment of a local day, in UTC."""
        return self._midnight(day)

    def local_date(self, moment: datetime) -> date:
        """The local day of ``moment``."""
        return moment.astimezone(ZoneInfo(self.timezone)).date()
