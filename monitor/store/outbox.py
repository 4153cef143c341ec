"""The outbox: messages that were decided, claimed with a lease by compare-and-set, in order per incident and destination."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from monitor.store import tables as t

PENDING, LEASED, SENT, DEAD, CANCELLED, UNKNOWN, HELD = "pending", "leased", "sent", "dead", "cancelled", "unknown", "held"
UNFINISHED = (PENDING, LEASED, HELD)
WAITING = (PENDING, HELD)


def idempotency_key(incident: int, sequence: int, destination: str) -> str:
    """The key by which a receiver recognises a duplicate; no time is in it."""
    return "msg_" + hashlib.sha256(f"{incident}/{sequence}/{destination}".encode()).hexdigest()[:32]


def add(
    connection: Connection, *, incident: int, sequence: int, destination: str, kind: str, payload: dict[str, Any], text: str,
    now: datetime, not_after: datetime | None = None, next_at: datetime | None = None, held_by: str = "",
) -> None:
    """Decide a message; it is sent after the transaction has committed, ``next_at`` at the earliest, and not while it is held."""
    add_for(
        connection, [destination], incident=incident, sequence=sequence, kind=kind, payload=payload, text=text, now=now, not_after=not_after,
        next_at=next_at, held_by=held_by,
    )


def add_for(
    connection: Connection, destinations: Sequence[str], *, incident: int, sequence: int, kind: str, payload: dict[str, Any], text: str,
    now: datetime, not_after: datetime | None = None, next_at: datetime | None = None, held_by: str = "",
) -> None:
    """`add` the same message for several destinations."""
    rows = [
        {
            "key": idempotency_key(incident, sequence, destination), "incident_id": incident, "destination": destination, "kind": kind,
            "sequence": sequence, "payload": payload, "text": text, "state": HELD if held_by else PENDING, "attempts": 0, "next_at": next_at or now,
            "created_at": now, "epoch": 0, "not_after": not_after, "error": "", "held_by": held_by, "covered_by": "",
        }
        for destination in destinations
    ]
    if rows:
        connection.execute(t.outbox.insert(), rows)


def add_once(connection: Connection, *, incident: int, sequence: int, destination: str, **values: Any) -> bool:
    """`add`, unless the same was decided before; False then."""
    key = idempotency_key(incident, sequence, destination)
    if connection.execute(sa.select(t.outbox.c.id).where(t.outbox.c.key == key)).scalar() is not None:
        return False
    add(connection, incident=incident, sequence=sequence, destination=destination, **values)
    return True


def notice(
    connection: Connection, key: str, destination: str, payload: dict[str, Any], text: str, now: datetime, held_by: str = "",
) -> bool:
    """Decide a message that belongs to no incident, once for each ``key``; False when it was decided before."""
    full = "msg_" + hashlib.sha256(f"{key}/{destination}".encode()).hexdigest()[:32]
    if connection.execute(sa.select(t.outbox.c.id).where(t.outbox.c.key == full)).scalar() is not None:
        return False
    connection.execute(
        t.outbox.insert().values(
            key=full, incident_id=None, destination=destination, kind="alert", sequence=0, payload=payload, text=text,
            state=HELD if held_by else PENDING, attempts=0, next_at=now, created_at=now, epoch=0, error="", held_by=held_by, covered_by="",
        )
    )
    return True


def rollback_requests(connection: Connection, incident: int) -> int:
    """How many requests of an incident's rollback were ever put here."""
    o = t.outbox.c
    query = sa.select(sa.func.count()).select_from(t.outbox).where(o.incident_id == incident, o.kind == "rollback")
    return int(connection.execute(query).scalar_one())


def told(connection: Connection, incident: int) -> frozenset[str]:
    """The destinations that have heard of an incident, or are just hearing."""
    o = t.outbox.c
    query = sa.select(o.destination).where(o.incident_id == incident, o.kind == "alert", o.covered_by == "", sa.or_(o.state.in_((SENT, LEASED)), o.attempts > 0))
    return frozenset(connection.execute(query.distinct()).scalars())


def addressed(connection: Connection, incident: int) -> frozenset[str]:
    """The destinations that have heard or will hear of an incident."""
    o = t.outbox.c
    query = sa.select(o.destination).where(o.incident_id == incident, o.kind == "alert", o.covered_by == "", o.state != CANCELLED)
    return frozenset(connection.execute(query.distinct()).scalars())


def leaving(connection: Connection, incident: int) -> frozenset[str]:
    """The destinations for which something of an incident is on its way."""
    o = t.outbox.c
    query = sa.select(o.destination).where(o.incident_id == incident, o.kind == "alert", o.covered_by == "", o.state == PENDING)
    return frozenset(connection.execute(query.distinct()).scalars())


def held(connection: Connection, held_by: str) -> list[Row[Any]]:
    """The messages that wait under that name, in order."""
    o = t.outbox.c
    return list(connection.execute(sa.select(t.outbox).where(o.state == HELD, o.held_by == held_by).order_by(o.incident_id, o.sequence)))


def held_since(connection: Connection, before: datetime) -> list[str]:
    """The names of catch-ups whose messages have waited since ``before``."""
    o = t.outbox.c
    query = sa.select(o.held_by).where(o.state == HELD, o.created_at < before, o.held_by.like("catchup:%"))
    return list(connection.execute(query.distinct()).scalars())


def hold_on(connection: Connection, number: int, held_by: str) -> None:
    """Let a held message wait for something else."""
    connection.execute(t.outbox.update().where(t.outbox.c.id == number, t.outbox.c.state == HELD).values(held_by=held_by))


def let_go(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    """Make held messages due."""
    o = t.outbox.c
    connection.execute(t.outbox.update().where(o.id.in_(ids), o.state == HELD).values(state=PENDING, held_by="", next_at=now))


def cover(connection: Connection, ids: Sequence[int], by: str) -> None:
    """Messages that another one stands for are not sent."""
    o = t.outbox.c
    connection.execute(t.outbox.update().where(o.id.in_(ids), o.state.in_(WAITING)).values(state=CANCELLED, covered_by=by, held_by=""))


def cover_unsent(connection: Connection, incident: int, by: str) -> None:
    """What waits of an incident and was never tried is covered by another message, where nobody has heard of it yet."""
    o = t.outbox.c
    earlier = t.outbox.alias()
    heard = sa.exists().where(
        earlier.c.incident_id == o.incident_id, earlier.c.destination == o.destination, earlier.c.kind == "alert",
        sa.or_(earlier.c.state.in_((SENT, LEASED)), earlier.c.attempts > 0),
    )
    mine = (o.incident_id == incident, o.kind == "alert", o.state.in_(WAITING), ~heard)
    connection.execute(t.outbox.update().where(*mine).values(state=CANCELLED, covered_by=by, held_by=""))


def hasten(connection: Connection, incident: int, now: datetime) -> None:
    """What waits of an incident for more to come goes out with what breaks through; a failed try keeps its wait."""
    o = t.outbox.c
    mine = (o.incident_id == incident, o.kind == "alert", o.state == PENDING, o.attempts == 0, o.next_at > now)
    connection.execute(t.outbox.update().where(*mine).values(next_at=now))


def waits(connection: Connection, incident: int, sequence: int) -> bool:
    """Whether that message of an incident waits untried for every destination."""
    o = t.outbox.c
    mine = (o.incident_id == incident, o.kind == "alert", o.sequence == sequence)
    rows = connection.execute(sa.select(o.state, o.attempts).where(*mine).with_for_update()).all()
    return bool(rows) and all(r.state in WAITING and not r.attempts for r in rows)


def renew(connection: Connection, incident: int, sequence: int, payload: dict[str, Any], text: str) -> datetime | None:
    """Replace what a waiting message of an incident says; answers when it leaves."""
    o = t.outbox.c
    mine = (o.incident_id == incident, o.kind == "alert", o.sequence == sequence, o.state.in_(WAITING))
    connection.execute(t.outbox.update().where(*mine).values(payload=payload, text=text))
    return connection.execute(sa.select(sa.func.max(o.next_at)).where(*mine)).scalar()


def hold(connection: Connection, incident: int, held_by: str) -> None:
    """Let what waits of an incident wait for something else, such as the end of a silence."""
    o = t.outbox.c
    mine = (o.incident_id == incident, o.kind == "alert", o.state == PENDING)
    connection.execute(t.outbox.update().where(*mine).values(state=HELD, held_by=held_by))


def held_by_ended(connection: Connection) -> list[str]:
    """The names of silences that are over and still hold messages, as those that were decided while they ended."""
    o, s = t.outbox.c, t.silence.c
    names = connection.execute(sa.select(o.held_by).where(o.state == HELD, o.held_by.like("silence:%")).distinct()).scalars().all()
    ended = set(connection.execute(sa.select(s.id).where(s.ended_at.is_not(None))).scalars()) if names else set()
    return [name for name in names if int(name.partition(":")[2]) in ended]


def cancel_rollback(connection: Connection, incident: int, why: str) -> None:
    """The request of a rollback that is not to be sent any more."""
    o = t.outbox.c
    mine = (o.incident_id == incident, o.kind == "rollback", o.state == PENDING)
    connection.execute(t.outbox.update().where(*mine).values(state=CANCELLED, error=why))


def due_destinations(connection: Connection, now: datetime, kinds: Sequence[str]) -> list[str]:
    """Where something may be sent now."""
    o = t.outbox.c
    due = sa.or_(sa.and_(o.state == PENDING, o.next_at <= now), sa.and_(o.state == LEASED, o.lease_until < now))
    return list(connection.execute(sa.select(o.destination).where(due, o.kind.in_(kinds)).distinct()).scalars())


def _head() -> sa.ColumnElement[bool]:
    """That nothing of the same incident and destination comes before it."""
    o, earlier = t.outbox.c, t.outbox.alias()
    return ~sa.exists().where(
        earlier.c.incident_id == o.incident_id, earlier.c.destination == o.destination, earlier.c.sequence < o.sequence,
        earlier.c.kind == o.kind, earlier.c.state.in_(UNFINISHED),
    )


def claim(
    connection: Connection, owner: str, now: datetime, lease: timedelta, kinds: Sequence[str], limit: int = 20, destination: str | None = None,
) -> list[Row[Any]]:
    """Lease the due heads of their order keys; a lease that ran out may be taken over."""
    o = t.outbox.c
    due = sa.or_(sa.and_(o.state == PENDING, o.next_at <= now), sa.and_(o.state == LEASED, o.lease_until < now))
    query = sa.select(t.outbox).where(due, _head(), o.kind.in_(kinds))
    if destination is not None:
        query = query.where(o.destination == destination)
    rows = connection.execute(query.order_by(o.next_at, o.id).limit(limit)).all()
    return [leased for row in rows if (leased := _lease(connection, row, owner, now + lease)) is not None]


def lost_actions(connection: Connection, now: datetime) -> list[Row[Any]]:
    """Actions whose sender was killed: each may have had its effect, and is not asked for twice; answers what they were."""
    o = t.outbox.c
    lost = (o.kind == "action", o.state == LEASED, o.lease_until < now)
    found = t.outbox.update().where(*lost).values(state=UNKNOWN, error="driftd stopped while it was sent").returning(t.outbox)
    return list(connection.execute(found))


def claim_rest(connection: Connection, head: Row[Any], owner: str, now: datetime, until: datetime) -> list[Row[Any]]:
    """Lease what waits behind a claimed message of the same incident and destination, to be told with it; in order."""
    o = t.outbox.c
    query = sa.select(t.outbox).where(
        o.incident_id == head.incident_id, o.destination == head.destination, o.kind == head.kind, o.sequence > head.sequence,
        o.state.in_(UNFINISHED),
    )
    rest: list[Row[Any]] = []
    for row in connection.execute(query.order_by(o.sequence)).all():
        free = row.state == PENDING or (row.state == LEASED and row.lease_until < now)
        leased = _lease(connection, row, owner, until) if free else None
        if leased is None:  # nothing behind it may go before it
            break
        rest.append(leased)
    return rest


def _lease(connection: Connection, row: Row[Any], owner: str, until: datetime) -> Row[Any] | None:
    """The row as it is in the table once it is leased; None when another was faster."""
    o = t.outbox.c
    return connection.execute(
        t.outbox.update().where(o.id == row.id, o.epoch == row.epoch, o.state == row.state)
        .values(state=LEASED, lease_owner=owner, lease_until=until, epoch=row.epoch + 1).returning(t.outbox)
    ).one_or_none()


def record(
    connection: Connection, row: Row[Any], now: datetime, *, state: str, outcome: str, detail: str = "", next_at: datetime | None = None,
    covered_by: str = "",
) -> bool:
    """Record what became of a claimed message; False when the lease was lost to another."""
    values: dict[str, Any] = {"state": state, "attempts": row.attempts + 1, "lease_until": None, "error": "" if state == SENT else detail, "covered_by": covered_by}
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


def release_all(connection: Connection, owner: str) -> int:
    """Give back everything that ``owner`` has claimed: it stops."""
    o = t.outbox.c
    mine = (o.state == LEASED, o.lease_owner == owner, o.kind == "alert")
    return connection.execute(t.outbox.update().where(*mine).values(state=PENDING, lease_until=None)).rowcount


def give_up(connection: Connection, destination: str, before: datetime, why: str) -> list[Row[Any]]:
    """What was decided for a destination until ``before`` and still waits is dead; answers what that is."""
    o = t.outbox.c
    old = (o.destination == destination, o.state == PENDING, o.created_at <= before)
    found = list(connection.execute(sa.select(t.outbox).where(*old).order_by(o.id)))
    connection.execute(t.outbox.update().where(*old).values(state=DEAD, error=why))
    return found


def replay(connection: Connection, number: int | None, destination: str | None, now: datetime) -> int:
    """Make dead letters due again: one, those of a destination, or all; answers how many."""
    o = t.outbox.c
    chosen = [o.state == DEAD, o.kind != "rollback"]
    if number is not None:
        chosen.append(o.id == number)
    if destination is not None:
        chosen.append(o.destination == destination)
    values = {"state": PENDING, "next_at": now, "created_at": now, "error": ""}
    return connection.execute(t.outbox.update().where(*chosen).values(**values)).rowcount


def dead_of_switched_off(connection: Connection, number: int | None, destination: str | None) -> set[str]:
    """The destinations of those dead letters that are switched off."""
    o, d = t.outbox.c, t.destination.c
    chosen = [o.state == DEAD, o.kind != "rollback", *([o.id == number] if number is not None else []), *([o.destination == destination] if destination is not None else [])]
    return set(connection.execute(sa.select(o.destination).join(t.destination, d.name == o.destination).where(*chosen, d.disabled_at.is_not(None))).scalars())


def listing(connection: Connection, states: Sequence[str] = (), limit: int = 200) -> list[Row[Any]]:
    """Messages, newest first."""
    o = t.outbox.c
    columns = [c for c in t.outbox.c if c.name not in ("payload", "text")]
    query = sa.select(*columns).order_by(o.id.desc()).limit(limit)
    return list(connection.execute(query.where(o.state.in_(states)) if states else query))


def of_incident(connection: Connection, incident: int) -> list[Row[Any]]:
    """Every message on an incident, in order."""
    o = t.outbox.c
    return list(connection.execute(sa.select(t.outbox).where(o.incident_id == incident).order_by(o.sequence, o.id)))


def sent_since(connection: Connection, destination: str, since: datetime) -> bool:
    """Whether anything has arrived at a destination since then."""
    o = t.outbox.c
    query = sa.select(o.id).where(o.destination == destination, o.state == SENT, o.sent_at > since).limit(1)
    return connection.execute(query).scalar() is not None


def next_due(connection: Connection) -> datetime | None:
    """When the next pending message may be sent."""
    return connection.execute(sa.select(sa.func.min(t.outbox.c.next_at)).where(t.outbox.c.state == PENDING)).scalar()


def stuck(connection: Connection, before: datetime) -> int:
    """How many messages should have left long ago: due since ``before`` and never tried, or claimed and not given back; what waits
    behind another message of its incident, or for a destination that fails, is not counted."""
    o, d = t.outbox.c, t.destination.c
    shut = sa.exists().where(d.name == o.destination, sa.or_(d.disabled_at.is_not(None), d.failures > 0))
    late = sa.or_(sa.and_(o.state == PENDING, o.attempts == 0, o.next_at < before), sa.and_(o.state == LEASED, o.lease_until < before))
    query = sa.select(sa.func.count()).select_from(t.outbox).where(late, o.kind != "rollback", _head(), ~shut)
    return int(connection.execute(query).scalar_one())


def counts(connection: Connection) -> dict[str, int]:
    """Messages by state."""
    query = sa.select(t.outbox.c.state, sa.func.count()).group_by(t.outbox.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def oldest_pending(connection: Connection) -> datetime | None:
    """Since when the oldest unsent message waits."""
    query = sa.select(sa.func.min(t.outbox.c.created_at)).where(t.outbox.c.state.in_(UNFINISHED))
    return connection.execute(query).scalar()
