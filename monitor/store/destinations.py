"""What is known of the places that messages go to: their breaker, whether they are switched off, their threads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql
from sqlalchemy.dialects.sqlite import insert as sqlite
from sqlalchemy.engine import Connection, Row

from monitor.store import tables as t


def of(connection: Connection, name: str) -> Row[Any] | None:
    """What is known of one destination."""
    return connection.execute(sa.select(t.destination).where(t.destination.c.name == name)).one_or_none()


def locked(connection: Connection, name: str) -> Row[Any] | None:
    """What is known of one destination, kept from others until commit."""
    return connection.execute(sa.select(t.destination).where(t.destination.c.name == name).with_for_update()).one_or_none()


def all_of(connection: Connection) -> list[Row[Any]]:
    """Every destination that ever failed."""
    return list(connection.execute(sa.select(t.destination).order_by(t.destination.c.name)))


def shut(connection: Connection, now: datetime) -> frozenset[str]:
    """The destinations that nothing is to be sent to now: switched off, or waiting after failures."""
    d = t.destination.c
    query = sa.select(d.name).where(sa.or_(d.disabled_at.is_not(None), d.open_until > now))
    return frozenset(connection.execute(query).scalars())


def save(connection: Connection, name: str, **values: Any) -> None:
    """Set what is known of a destination, of which another daemon may learn at the same time."""
    insert = sqlite if connection.dialect.name == "sqlite" else postgresql
    row = insert(t.destination).values(**{"name": name, "failures": 0, "reason": "", **values})
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=values) if values else row.on_conflict_do_nothing())


def works(connection: Connection, name: str) -> None:
    """Something arrived there: no breaker, not switched off."""
    d = t.destination.c
    connection.execute(
        t.destination.update().where(d.name == name, sa.or_(d.failures > 0, d.disabled_at.is_not(None)))
        .values(failures=0, open_until=None, failing_since=None, disabled_at=None, reason="")
    )


def thread_of(connection: Connection, incident: int | None, destination: str) -> str:
    """The thread that an incident has there; empty if none yet."""
    if incident is None:
        return ""
    h = t.thread.c
    return str(connection.execute(sa.select(h.ref).where(h.incident_id == incident, h.destination == destination)).scalar() or "")


def save_thread(connection: Connection, incident: int, destination: str, ref: str) -> None:
    """Keep where an incident's thread begins; the first one stays, though another daemon tells the same at the same time."""
    insert = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(insert(t.thread).values(incident_id=incident, destination=destination, ref=ref).on_conflict_do_nothing())
