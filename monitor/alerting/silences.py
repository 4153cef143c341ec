"""Silences and maintenance: evaluation goes on, delivery waits until their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from checks.core.errors import ConfigError

LONGEST = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Silence:
    """Who silenced what, why, and until when; ``monitor`` ``*`` is all of them, ``family`` and ``incident`` narrow it."""

    id: int
    monitor: str
    starts: datetime
    ends: datetime
    author: str
    reason: str
    family: str | None = None
    incident: int | None = None
    maintenance: bool = False

    def covers(self, monitor: str, family: str, incident: int | None, now: datetime) -> bool:
        """Whether a message on that incident waits now."""
        return (
            self.starts <= now < self.ends and self.monitor in ("*", monitor) and self.family in (None, family)
            and (self.incident is None or self.incident == incident)
        )


def silenced(silences: Sequence[Silence], monitor: str, family: str, incident: int | None, now: datetime) -> Silence | None:
    """The silence that holds a message back, the one that lasts longest; or None."""
    found = [s for s in silences if s.covers(monitor, family, incident, now)]
    return max(found, key=lambda s: s.ends, default=None)


def check(length: timedelta, reason: str, author: str) -> None:
    """`ConfigError` unless a silence says who, why and until when."""
    if not timedelta(0) < length <= LONGEST:
        raise ConfigError("a silence lasts longer than nothing and up to 7 days; give a duration such as 2h with --for")
    if not reason.strip():
        raise ConfigError("a silence needs a reason that the next person understands; give one with --reason")
    if not author.strip():
        raise ConfigError("a silence needs an author; give one with --by")


@dataclass(frozen=True, slots=True)
class Held:
    """One message that waited: of which incident, its place in the order, and whether it says that the incident ended."""

    id: int
    incident: int | None
    destination: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Release:
    """What becomes of held messages: which are sent, which are covered by those or need not be said, and one line each for the rest."""

    send: tuple[int, ...]
    drop: tuple[int, ...]
    passing: tuple[int, ...]


def release(held: Sequence[Held], open_now: frozenset[int], told: frozenset[tuple[int, str]]) -> Release:
    """At the end of a silence, or when a catch-up is over.

    Of an incident that still fires, and of one that people knew and that ended, the messages go out, as one where people read
    them. One that came and went in between is a line in a summary.

    Parameters
    ----------
    told : (incident, destination) pairs of which something had been sent before.
    """
    send: list[int] = []
    drop: list[int] = []
    passing: dict[int, None] = {}
    for item in held:
        if item.incident is None or item.incident in open_now or (item.incident, item.destination) in told:
            send.append(item.id)
        else:
            drop.append(item.id)
            passing[item.incident] = None
    return Release(tuple(send), tuple(drop), tuple(passing))
