"""Silences and maintenance."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from monitor.alerting.silences import Silence
from monitor.store import tables as t

MAINTENANCE = "maintenance"


def add(connection: Connection, **values: Any) -> int:
    """Store a silence; answers its number."""
    return int(connection.execute(t.silence.insert().values(rule=None, **values).returning(t.silence.c.id)).scalar_one())


def listing(connection: Connection, limit: int = 200) -> list[Row[Any]]:
    """Silences, newest first."""
    return list(connection.execute(sa.select(t.silence).order_by(t.silence.c.id.desc()).limit(limit)))


def current(connection: Connection, now: datetime) -> list[Silence]:
    """What is silenced now."""
    s = t.silence.c
    return [_read(row) for row in connection.execute(sa.select(t.silence).where(s.ended_at.is_(None), s.starts_at <= now, s.ends_at > now))]


def over(connection: Connection, now: datetime) -> list[Silence]:
    """Silences whose end has come and whose messages were not let go yet."""
    s = t.silence.c
    return [_read(row) for row in connection.execute(sa.select(t.silence).where(s.ended_at.is_(None), s.ends_at <= now))]


def end(connection: Connection, silence: int, now: datetime) -> bool:
    """Mark a silence as ended; False when another did so before."""
    s = t.silence.c
    return connection.execute(t.silence.update().where(s.id == silence, s.ended_at.is_(None)).values(ended_at=now)).rowcount == 1


def shorten(connection: Connection, silence: int, now: datetime) -> bool:
    """Let a silence end now."""
    s = t.silence.c
    return connection.execute(t.silence.update().where(s.id == silence, s.ended_at.is_(None), s.ends_at > now).values(ends_at=now)).rowcount == 1


def _read(row: Row[Any]) -> Silence:
    return Silence(row.id, row.monitor, row.starts_at, row.ends_at, row.author, row.reason, row.family, row.incident_id, row.kind == MAINTENANCE)
