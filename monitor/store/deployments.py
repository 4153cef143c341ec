"""New model versions under watch, and what was counted of quality: hours, labels, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from checks.core.window import Window
from monitor.alerting.lateness import AGES
from monitor.ports import ProfiledWindow
from monitor.store import tables as t

HOUR, CALIBRATION = "hour", "calibration"


def of_monitor(connection: Connection, monitor: str | None = None, state: str | None = None) -> list[Row[Any]]:
    """The watched versions, newest first."""
    d = t.deployment.c
    query = sa.select(t.deployment).order_by(d.first_seen.desc(), d.id.desc())
    if monitor is not None:
        query = query.where(d.monitor == monitor)
    if state is not None:
        query = query.where(d.state == state)
    return list(connection.execute(query))


def of_incident(connection: Connection, incident: int) -> Row[Any] | None:
    """The watch of a new version that an incident is about."""
    return connection.execute(sa.select(t.deployment).where(t.deployment.c.incident_id == incident)).first()


def begin(connection: Connection, monitor: str, version: str, previous: str, first: datetime, until: datetime, now: datetime) -> None:
    """Watch a version from now on; once."""
    connection.execute(t.deployment.insert().values(
        monitor=monitor, version=version, previous=previous, first_seen=first, until=until, state="watched", verdict="insufficient",
        body={}, updated_at=now,
    ))


def update(connection: Connection, row: int, **values: Any) -> None:
    """Set columns of a watched version."""
    connection.execute(t.deployment.update().where(t.deployment.c.id == row).values(**values))


def known_versions(connection: Connection, monitor: str, before: datetime | None = None) -> set[str]:
    """Every version of a run (that began ``before`` a moment, or was the first), and those that are or were under watch."""
    r, d = t.run.c, t.deployment.c
    first = sa.select(sa.func.min(r.start)).where(r.monitor == monitor, r.error == "").scalar_subquery()
    query = sa.select(r.model_versions).where(r.monitor == monitor, r.current)
    if before is not None:
        query = query.where(sa.or_(r.start < before, r.start == first))
    rows = connection.execute(query).scalars()
    watched = connection.execute(sa.select(d.version).where(d.monitor == monitor)).scalars()
    return {str(v) for found in rows for v in found} | {str(v) for v in watched}


def hours(connection: Connection, monitor: str, since: datetime, until: datetime) -> tuple[ProfiledWindow, ...]:
    """The counted hours that start in ``[since, until)``, in order."""
    p = t.profile.c
    query = sa.select(p.start, p.end, p.rows, p.body).where(p.monitor == monitor, p.kind == HOUR, p.start >= since, p.start < until)
    return tuple(ProfiledWindow(Window(r.start, r.end), r.rows, r.body) for r in connection.execute(query.order_by(p.start)))


def save_hours(connection: Connection, monitor: str, found: Sequence[ProfiledWindow]) -> None:
    """Keep counted hours, each once."""
    p = t.profile.c
    for item in found:
        connection.execute(t.profile.delete().where(p.monitor == monitor, p.kind == HOUR, p.start == item.window.start))
        connection.execute(t.profile.insert().values(
            monitor=monitor, start=item.window.start, end=item.window.end, revision=0, kind=HOUR, binning="", rows=item.rows, body=item.profile,
        ))


def forget_hours(connection: Connection, monitor: str, before: datetime) -> None:
    """Drop the hours before a moment: no watch reads them any more."""
    p = t.profile.c
    connection.execute(t.profile.delete().where(p.monitor == monitor, p.kind == HOUR, p.start < before))


def calibration(connection: Connection, monitor: str, binning: str) -> bytes | None:
    """What the labels of the reference taught, under that binning."""
    p = t.profile.c
    query = sa.select(p.body).where(p.monitor == monitor, p.kind == CALIBRATION, p.binning == binning)
    return connection.execute(query.order_by(p.start.desc()).limit(1)).scalar()


def save_calibration(connection: Connection, monitor: str, binning: str, window: Window, body: bytes) -> None:
    """Keep it."""
    p = t.profile.c
    connection.execute(t.profile.delete().where(p.monitor == monitor, p.kind == CALIBRATION, p.start == window.start))
    connection.execute(t.profile.insert().values(
        monitor=monitor, start=window.start, end=window.end, revision=0, kind=CALIBRATION, binning=binning, rows=0, body=body,
    ))


def label_counts(connection: Connection, monitor: str, since: datetime, until: datetime | None = None) -> tuple[tuple[datetime, bytes], ...]:
    """The newest label counts of every window from ``since`` on, by start, in order."""
    p = t.profile.c
    query = sa.select(p.start, p.body).where(p.monitor == monitor, p.kind == "quality", p.start >= since)
    if until is not None:
        query = query.where(p.start < until)
    return tuple({row.start: row.body for row in connection.execute(query.order_by(p.start, p.revision))}.items())


def triangle(
    connection: Connection, monitor: str, count: int = 60, before: datetime | None = None,
) -> list[tuple[datetime, bool, list[float | None]]]:
    """Start, whether it is final, and by age the share labelled when the window had that age; the newest windows (``before`` one), oldest first.

    Known from when its labels were counted, not from what times they bear: they may be delivered long after those. None at ages before
    the first count.
    """
    r = t.run.c
    wanted = [r.monitor == monitor, r.current, r.labelled.is_not(None), *([r.start < before] if before is not None else [])]
    newest = sa.select(r.start).where(*wanted).order_by(r.start.desc()).limit(count)
    query = sa.select(r.start, r.end, r.current, r.evaluated_at, r.labels_checked, r.labelled, r.quality_state).where(
        r.monitor == monitor, r.labelled.is_not(None), r.start.in_(newest),
    )
    seen: dict[datetime, list[Any]] = {}
    for row in connection.execute(query.order_by(r.start, r.revision)):
        seen.setdefault(row.start, []).append(row)
    found = []
    for start, rows in seen.items():
        last = rows[-1]
        until = max(last.labels_checked or last.evaluated_at, last.evaluated_at) - last.end
        shares: list[float | None] = []
        for age in AGES:
            if age > until:
                break
            known = [float(row.labelled) for row in rows if row.evaluated_at - row.end <= age]
            shares.append(known[-1] if known else None)
        if any(share is not None for share in shares):
            found.append((start, last.quality_state == "final", shares))
    return found
