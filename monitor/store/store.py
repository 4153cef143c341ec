"""The store as a whole: transactions, its key, leases and the audit log."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from checks.core.errors import StoreError
from monitor.store import tables as t
from monitor.store.engine import READ, ensure_schema, open_engine, reason, redacted


class Store:
    """A store whose schema is right.

    ``read`` and ``write`` give a connection in a transaction; database errors become `StoreError` without parameters.
    """

    def __init__(self, url: str, engine: Engine | None = None) -> None:
        self.engine = engine or open_engine(url)
        self.name = redacted(url)
        try:
            ensure_schema(self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._guard(), self.engine.connect().execution_options(**READ) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._guard(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise StoreError(f"store {self.name}: {reason(error)}") from None

    def key(self) -> bytes:
        """The key of the hashes that stand for private texts; made once."""
        with self.read() as connection:
            found = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "hash_key")).scalar()
        if found is None:
            try:
                with self.write() as connection:
                    connection.execute(t.meta.insert().values(key="hash_key", value=secrets.token_hex(32)))
            except IntegrityError:
                pass  # another process made it in the meantime
            return self.key()
        return bytes.fromhex(found)

    def close(self) -> None:
        self.engine.dispose()


def take_lease(connection: Connection, name: str, owner: str, now: datetime, length: timedelta) -> int | None:
    """The epoch of the lease on ``name`` now held by ``owner``, or None when another holds it."""
    row = connection.execute(sa.select(t.lease).where(t.lease.c.name == name)).one_or_none()
    if row is None:
        try:
            with connection.begin_nested():
                connection.execute(t.lease.insert().values(name=name, owner=owner, until=now + length, epoch=1))
            return 1
        except IntegrityError:
            return None
    mine = row.owner == owner  # though it may have run out, as when the machine slept: nobody has taken it since
    if not mine and row.until > now:
        return None
    epoch = int(row.epoch) + (0 if mine else 1)
    # Of one's own only the epoch must be the same: another thread may just have made it last longer.
    same = (t.lease.c.name == name, t.lease.c.epoch == row.epoch, *(() if mine else (t.lease.c.until == row.until,)))
    changed = connection.execute(t.lease.update().where(*same).values(owner=owner, until=now + length, epoch=epoch))
    return epoch if changed.rowcount == 1 else None


def holds_lease(connection: Connection, name: str, owner: str, epoch: int) -> bool:
    """Whether the lease of that epoch is still ``owner``'s; locks the row so that it stays so until commit."""
    query = sa.select(t.lease.c.epoch).where(t.lease.c.name == name, t.lease.c.owner == owner, t.lease.c.epoch == epoch)
    return connection.execute(query.with_for_update()).scalar() is not None


def leased(connection: Connection, name: str, now: datetime) -> bool:
    """Whether anybody holds the lease on ``name``."""
    return connection.execute(sa.select(t.lease.c.until).where(t.lease.c.name == name, t.lease.c.until > now)).scalar() is not None


def release_lease(connection: Connection, name: str, owner: str) -> None:
    """Give the lease back early; the epoch stays."""
    past = t.EPOCH
    connection.execute(t.lease.update().where(t.lease.c.name == name, t.lease.c.owner == owner).values(until=past))


def reclaim(connection: Connection, is_dead: Callable[[str], bool]) -> int:
    """End the leases of owners that are known to be dead, on monitors and on messages; answers how many."""
    ended = 0
    for owner in connection.execute(sa.select(t.lease.c.owner).distinct()).scalars().all():
        if is_dead(owner):
            ended += connection.execute(t.lease.update().where(t.lease.c.owner == owner).values(until=t.EPOCH)).rowcount
    held = sa.select(t.outbox.c.lease_owner).where(t.outbox.c.state == "leased").distinct()
    for owner in connection.execute(held).scalars().all():
        if is_dead(owner):
            mine = (t.outbox.c.state == "leased", t.outbox.c.lease_owner == owner)
            ended += connection.execute(t.outbox.update().where(*mine).values(lease_until=t.EPOCH)).rowcount
    return ended


def heartbeat(connection: Connection, owner: str, now: datetime) -> None:
    """Leave a sign of life."""
    key = f"heartbeat {owner}"[:100]
    changed = connection.execute(t.meta.update().where(t.meta.c.key == key).values(value=now.isoformat()))
    if not changed.rowcount:
        connection.execute(t.meta.delete().where(t.meta.c.key.like("heartbeat %"), t.meta.c.value < (now - timedelta(days=1)).isoformat()))
        connection.execute(t.meta.insert().values(key=key, value=now.isoformat()))


DISPATCH = "rollback/dispatch"
"""What is kept to one at a time while a rollback is sent, or stopped."""


def one_at_a_time(connection: Connection, name: str) -> None:
    """Keep other daemons out of what ``name`` stands for until commit; SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def audit(connection: Connection, at: datetime, actor: str, action: str, body: dict[str, Any]) -> None:
    """Append to the audit log."""
    connection.execute(t.audit.insert().values(at=at, actor=actor, action=action, body=body))


def audited(connection: Connection, incident: int, since: datetime) -> list[Row[Any]]:
    """What the audit log has of an incident since then, in order."""
    a = t.audit.c
    found = connection.execute(sa.select(t.audit).where(a.at >= since).order_by(a.id))
    return [row for row in found if incident in (row.body.get("incident"), row.body.get("incident_id"))]
