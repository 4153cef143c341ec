"""The outbox: messages that were decided, claimed with a lease by compare-and-set, in order per incident and destination."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from monitor.store import tables as t

PENDING, LEASED, SENT, DEAD, CANCELLED, UNKNOWN = "pending", "leased", "sent", "dead", "cancelled", "unknown"
UNFINISHED = (PENDING, LEASED)


def idempotency_key(incident: int, sequence: int, destination: str) -> str:
    """The key by which a receiver recognises a duplicate; no time is in it."""
    return "msg_" + hashlib.sha256(f"{incident}/{sequence}/{destination}".encode()).hexdigest()[:32]


def add(
    connection: Connection, *, incident: int, sequence: int, destination: str, kind: str, payload: dict[str, Any], text: str,
    now: datetime, not_after: datetime | None = None,
) -> None:
    """Decide a message; it is sent after the transaction has committed."""
    connection.execute(
        t.outbox.insert().values(
            key=idempotency_key(incident, sequence, destination), incident_id=incident, destination=destination, kind=kind,
            sequence=sequence, payload=payload, text=text, state=PENDING, attempts=0, next_at=now, created_at=now, epoch=0,
            not_after=not_after, error="",
        )
    )


def notice(connection: Connection, key: str, destination: str, payload: dict[str, Any], text: str, now: datetime) -> bool:
    """Decide a message that belongs to no incident, once for each ``key``; False when it was decided before."""
    full = "msg_" + hashlib.sha256(f"{key}/{destination}".encode()).hexdigest()[:32]
    if connection.execute(sa.select(t.outbox.c.id).where(t.outbox.c.key == full)).scalar() is not None:
        return False
    connection.execute(
        t.outbox.insert().values(
            key=full, incident_id=None, destination=destination, kind="alert", sequence=0, payload=payload, text=text, state=PENDING,
            attempts=0, next_at=now, created_at=now, epoch=0, error="",
        )
    )
    return True


def claim(connection: Connection, owner: str, now: datetime, lease: timedelta, kinds: tuple[str, ...], limit: int = 20) -> list[Row[Any]]:
    """Lease the due heads of their order keys; a lease that ran out may be taken over."""
    o = t.outbox.c
    earlier = t.outbox.alias()
    head = ~sa.exists().where(
        earlier.c.incident_id == o.incident_id, earlier.c.destination == o.destination, earlier.c.sequence < o.sequence,
        earlier.c.kind == o.kind, earlier.c.state.in_(UNFINISHED),
    )
    due = sa.or_(sa.and_(o.state == PENDING, o.next_at <= now), sa.and_(o.state == LEASED, o.lease_until < now))
    claimed = []
    for row in connection.execute(sa.select(t.outbox).where(due, head, o.kind.in_(kinds)).order_by(o.next_at, o.id).limit(limit)).all():
        changed = connection.execute(
            t.outbox.update().where(o.id == row.id, o.epoch == row.epoch, o.state == row.state)
            .values(state=LEASED, lease_owner=owner, lease_until=now + lease, epoch=row.epoch + 1)
        )
        if changed.rowcount == 1:
            claimed.append(connection.execute(sa.select(t.outbox).where(o.id == row.id)).one())
    return claimed


def record(
    connection: Connection, row: Row[Any], now: datetime, *, state: str, outcome: str, detail: str = "", next_at: datetime | None = None,
) -> bool:
    """Record what became of a claimed message; False when the lease was lost to another."""
    values: dict[str, Any] = {"state": state, "attempts": row.attempts + 1, "lease_until": None, "error": "" if state == SENT else detail}
    if next_at is not None:
        values["next_at"] = next_at
    if state == SENT:
        values["sent_at"] = now
    changed = connection.execute(
        t.outbox.update().where(t.outbox.c.id == row.id, t.outbox.c.epoch == row.epoch, t.outbox.c.state == LEASED).values(**values)
    )
    connection.execute(
        t.delivery_attempt.insert().values(outbox_id=row.id, at=now, outcome=outcome, detail=detail[:2000])
    )
    return changed.rowcount == 1


def give_up_rollback(connection: Connection, incident: int) -> None:
    """A rollback's request whose fate is unknown is not sent again by the outbox."""
    o = t.outbox.c
    mine = (o.incident_id == incident, o.kind == "rollback", o.state.in_(UNFINISHED))
    connection.execute(t.outbox.update().where(*mine).values(state=UNKNOWN, lease_until=None))


def release(connection: Connection, row: Row[Any]) -> None:
    """Give a claimed message back untried."""
    connection.execute(
        t.outbox.update().where(t.outbox.c.id == row.id, t.outbox.c.epoch == row.epoch, t.outbox.c.state == LEASED)
        .values(state=PENDING, lease_until=None)
    )


def next_due(connection: Connection) -> datetime | None:
    """When the next pending message may be sent."""
    return connection.execute(sa.select(sa.func.min(t.outbox.c.next_at)).where(t.outbox.c.state == PENDING)).scalar()


def counts(connection: Connection) -> dict[str, int]:
    """Messages by state."""
    query = sa.select(t.outbox.c.state, sa.func.count()).group_by(t.outbox.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def oldest_pending(connection: Connection) -> datetime | None:
    """Since when the oldest unsent message waits."""
    query = sa.select(sa.func.min(t.outbox.c.created_at)).where(t.outbox.c.state.in_(UNFINISHED))
    return connection.execute(query).scalar()
