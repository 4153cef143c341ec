"""Incidents, what was announced of them, alerts, tokens and rollbacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from monitor.alerting.fold import RuleState
from monitor.alerting.incidents import Known
from monitor.store import tables as t


def known_since(connection: Connection, monitor: str, since: datetime) -> list[Known]:
    """The incidents of a monitor that were open at or after ``since``."""
    i = t.incident.c
    query = sa.select(t.incident).where(i.monitor == monitor, sa.or_(i.state == "open", i.last_window >= since))
    return [
        Known(row.id, row.family, row.severity, row.state, row.first_window, row.last_window, row.closed_window, tuple(row.members), row.windows)
        for row in connection.execute(query.order_by(i.id))
    ]


def get(connection: Connection, incident: int) -> Row[Any]:
    """One incident."""
    return connection.execute(sa.select(t.incident).where(t.incident.c.id == incident)).one()


def find(connection: Connection, incident: int) -> Row[Any] | None:
    """One incident, or None where there is none of that number."""
    return connection.execute(sa.select(t.incident).where(t.incident.c.id == incident)).one_or_none()


def several(connection: Connection, numbers: Collection[int]) -> list[Row[Any]]:
    """Several incidents, in order."""
    if not numbers:
        return []
    return list(connection.execute(sa.select(t.incident).where(t.incident.c.id.in_(list(numbers))).order_by(t.incident.c.id)))


def create(connection: Connection, **values: Any) -> int:
    """Store a new incident; answers its number."""
    return int(connection.execute(t.incident.insert().values(**values).returning(t.incident.c.id)).scalar_one())


def update(connection: Connection, incident: int, **values: Any) -> None:
    """Set columns of an incident."""
    connection.execute(t.incident.update().where(t.incident.c.id == incident).values(**values))


def listing(connection: Connection, state: str | None = None, monitor: str | None = None, limit: int | None = None) -> list[Row[Any]]:
    """Incidents, newest first."""
    query = sa.select(t.incident).order_by(t.incident.c.first_window.desc(), t.incident.c.id.desc())
    if state is not None:
        query = query.where(t.incident.c.state == state)
    if monitor is not None:
        query = query.where(t.incident.c.monitor == monitor)
    return list(connection.execute(query.limit(limit) if limit else query))


def at(connection: Connection, monitor: str, start: datetime, end: datetime | None = None) -> list[Row[Any]]:
    """The incidents of a monitor that were open in the window of that start, or (with its end) began in it."""
    i = t.incident.c
    ended = sa.or_(i.closed_window.is_(None), i.closed_window > start)
    query = sa.select(t.incident).where(
        i.monitor == monitor, i.first_window <= start if end is None else i.first_window < end, ended, i.state != "withdrawn",
    )
    return list(connection.execute(query.order_by(i.id)))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of windows with a drift or data incident: first and last breaching window, the closing one, how many."""

    id: int
    family: str
    first: datetime
    last: datetime
    closed: datetime | None
    windows: int
    reason: str


def spans(connection: Connection, monitor: str) -> list[Span]:
    """The drift and data incidents of a monitor that were not withdrawn."""
    i = t.incident.c
    query = sa.select(i.id, i.family, i.first_window, i.last_window, i.closed_window, i.windows, i.reason)
    rows = connection.execute(query.where(i.monitor == monitor, i.family.in_(("drift", "data")), i.state != "withdrawn"))
    return [Span(*row) for row in rows]


def accept(connection: Connection, **values: Any) -> None:
    """Store that a person made the level of an incident normal."""
    connection.execute(t.acceptance.insert().values(**values))


def acceptances(connection: Connection, monitor: str) -> list[Row[Any]]:
    """What was accepted of a monitor, oldest first."""
    query = sa.select(t.acceptance).where(t.acceptance.c.monitor == monitor)
    return list(connection.execute(query.order_by(t.acceptance.c.since, t.acceptance.c.id)))


def open_of(connection: Connection, monitors: Collection[str]) -> list[Row[Any]]:
    """The open incidents of those monitors, oldest first."""
    i = t.incident.c
    query = sa.select(t.incident).where(i.state == "open", i.scope == "monitor", i.monitor.in_(list(monitors)))
    return list(connection.execute(query.order_by(i.id)))


def open_source(connection: Connection, source: str) -> Row[Any] | None:
    """The open incident of a source."""
    i = t.incident.c
    query = sa.select(t.incident).where(i.state == "open", i.scope == "source", i.source == source)
    return connection.execute(query.order_by(i.id)).first()


def open_channel(connection: Connection, name: str) -> Row[Any] | None:
    """The open incident of a channel that does not work."""
    i = t.incident.c
    query = sa.select(t.incident).where(i.state == "open", i.scope == "channel", i.source == name)
    return connection.execute(query.order_by(i.id)).first()


def children(connection: Connection, parent: int) -> list[Row[Any]]:
    """The incidents of monitors that a source's incident stands for."""
    return list(connection.execute(sa.select(t.incident).where(t.incident.c.parent_id == parent).order_by(t.incident.c.id)))


def spoken_for(connection: Connection, row: Row[Any]) -> bool:
    """Whether a source's incident that is open stands for this one."""
    if row.parent_id is None:
        return False
    return connection.execute(sa.select(t.incident.c.state).where(t.incident.c.id == row.parent_id)).scalar() == "open"


def locked(connection: Connection, incident: int) -> Row[Any] | None:
    """One incident, kept from others until commit."""
    return connection.execute(sa.select(t.incident).where(t.incident.c.id == incident).with_for_update()).one_or_none()


def last_said(connection: Connection, incident: int) -> datetime | None:
    """When anything of an incident was announced last."""
    query = sa.select(t.announcement.c.at).where(t.announcement.c.incident_id == incident)
    return connection.execute(query.order_by(t.announcement.c.sequence.desc()).limit(1)).scalar()


def switch(connection: Connection) -> str:
    """Who has stopped every rollback in the store; empty if nobody has."""
    return str(connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "no_rollback")).scalar() or "")


def set_switch(connection: Connection, by: str) -> None:
    """Stop every rollback in the name of ``by``, or (empty) let them go on."""
    connection.execute(t.meta.delete().where(t.meta.c.key == "no_rollback"))
    if by:
        connection.execute(t.meta.insert().values(key="no_rollback", value=by))


def append(connection: Connection, incident: int, kind: str, at: datetime, make_payload: Any) -> tuple[int, dict[str, Any]]:
    """Append the next announcement of an incident; ``make_payload(sequence)`` gives what it says."""
    a = t.announcement.c
    locked(connection, incident)
    last = connection.execute(sa.select(sa.func.max(a.sequence)).where(a.incident_id == incident)).scalar() or 0
    payload = make_payload(last + 1)
    connection.execute(
        t.announcement.insert().values(incident_id=incident, sequence=last + 1, type=kind, at=at, payload=payload)
    )
    return last + 1, payload


def reword(connection: Connection, incident: int, sequence: int, payload: dict[str, Any], at: datetime) -> None:
    """Replace what an announcement says that nobody has heard yet: it is as if it had been made only ``at`` that time."""
    a = t.announcement.c
    connection.execute(t.announcement.update().where(a.incident_id == incident, a.sequence == sequence).values(payload=payload, at=at))


def announcements(connection: Connection, incident: int) -> list[Row[Any]]:
    """Everything announced of an incident, in order."""
    query = sa.select(t.announcement).where(t.announcement.c.incident_id == incident)
    return list(connection.execute(query.order_by(t.announcement.c.sequence)))


def save_alerts(connection: Connection, monitor: str, states: Mapping[str, RuleState], now: datetime) -> None:
    """Replace the stored rule states of a monitor by those that are not ok."""
    connection.execute(t.alert.delete().where(t.alert.c.monitor == monitor))
    rows = [
        {"monitor": monitor, "rule": s.rule, "family": s.family, "state": s.state, "severity": str(s.severity), "since": s.since or now}
        for s in states.values() if s.state != "ok"
    ]
    if rows:
        connection.execute(t.alert.insert(), rows)


def tokens(connection: Connection, monitor: str) -> list[datetime]:
    """The windows that cost this monitor a token."""
    return list(connection.execute(sa.select(t.token.c.window).where(t.token.c.monitor == monitor)).scalars())


def owner_tokens(connection: Connection, owner: str) -> list[datetime]:
    """The windows that cost any monitor of this owner a token."""
    return list(connection.execute(sa.select(t.token.c.window).where(t.token.c.owner == owner)).scalars())


def spend(connection: Connection, monitor: str, owner: str, window: datetime, now: datetime) -> None:
    """Append to the token ledger; a window pays once."""
    connection.execute(t.token.insert().values(monitor=monitor, owner=owner, window=window, at=now))


def rollback_of(connection: Connection, incident: int) -> Row[Any] | None:
    """The rollback of an incident."""
    return connection.execute(sa.select(t.rollback).where(t.rollback.c.incident_id == incident)).one_or_none()


def rollbacks(connection: Connection, monitor: str | None = None, states: Sequence[str] = ()) -> list[Row[Any]]:
    """Rollbacks, newest first; only those in ``states`` where some are given."""
    query = sa.select(t.rollback).order_by(t.rollback.c.id.desc())
    if monitor:
        query = query.where(t.rollback.c.monitor == monitor)
    return list(connection.execute(query.where(t.rollback.c.state.in_(states)) if states else query))


def move_rollback(connection: Connection, old: Any, **values: Any) -> bool:
    """Update a rollback only if it still is as ``old`` was read (compare and set); False when another was faster."""
    r = t.rollback.c
    same = (r.id == old.id, r.state == old.state, r.posts == old.posts)
    return connection.execute(t.rollback.update().where(*same).values(**values)).rowcount == 1


def save_rollback(connection: Connection, rollback: int | None, **values: Any) -> int:
    """Insert or update a rollback; answers its number."""
    if rollback is None:
        values = {"posts": 0, "detail": "", **values}
        return int(connection.execute(t.rollback.insert().values(**values).returning(t.rollback.c.id)).scalar_one())
    connection.execute(t.rollback.update().where(t.rollback.c.id == rollback).values(**values))
    return rollback
