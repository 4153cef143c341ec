"""Monitors, runs, results and profiles."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from checks.core.window import Window, iso
from monitor.ports import BaselineWindow, Day, ProfiledWindow, RuleResult, Settings
from monitor.store import tables as t

RESULT_COLUMNS = ("rule", "family", "verdict", "value", "low", "high", "n", "column", "slice", "state", "cleared", "reason", "definition")


def settings_of(connection: Connection, name: str) -> Row[Any] | None:
    """The stored row of a monitor."""
    return connection.execute(sa.select(t.monitor).where(t.monitor.c.name == name)).one_or_none()


def save_settings(connection: Connection, name: str, key: str, settings: Settings, config_hash: str, now: datetime) -> None:
    """Freeze a monitor's settings; what was built under other settings no longer counts."""
    body = asdict(settings)
    for field in ("start", "reference_from", "reference_to"):
        body[field] = body[field].isoformat()
    connection.execute(t.monitor.delete().where(t.monitor.c.name == name))
    connection.execute(
        t.monitor.insert().values(
            name=name, settings_key=key, settings=body, created_at=now, config_hash=config_hash, labels_seen=""
        )
    )


def read_settings(row: Row[Any]) -> Settings:
    """The settings that `save_settings` froze."""
    body = dict(row.settings)
    for field in ("start", "reference_from", "reference_to"):
        body[field] = datetime.fromisoformat(body[field])
    body["notes"] = tuple(body["notes"])
    return Settings(**body)


def update_monitor(connection: Connection, name: str, **values: Any) -> None:
    """Set columns of a monitor's row."""
    connection.execute(t.monitor.update().where(t.monitor.c.name == name).values(**values))


def save_binning(connection: Connection, name: str, binning_hash: str, body: str, reference: bytes, now: datetime) -> None:
    """Store a binning once, under its hash, with the profile of the whole reference."""
    there = connection.execute(sa.select(t.binning.c.hash).where(t.binning.c.hash == binning_hash)).scalar()
    if there is None:
        connection.execute(t.binning.insert().values(hash=binning_hash, body=body, created_at=now))
    update_monitor(connection, name, binning=binning_hash, reference=reference)


def binning_body(connection: Connection, binning_hash: str) -> str:
    """The JSON of a stored binning."""
    return str(connection.execute(sa.select(t.binning.c.body).where(t.binning.c.hash == binning_hash)).scalar_one())


def save_profiles(connection: Connection, name: str, binning_hash: str, kind: str, revision: int, found: Iterable[ProfiledWindow]) -> None:
    """Store profiles, replacing those of the same windows and revision; of a day only the newest is kept."""
    for item in found:
        at = [t.profile.c.monitor == name, t.profile.c.start == item.window.start, t.profile.c.kind == kind]
        if kind != "rollup":
            at.append(t.profile.c.revision == revision)
        connection.execute(t.profile.delete().where(*at))
        connection.execute(
            t.profile.insert().values(
                monitor=name, start=item.window.start, end=item.window.end, revision=revision, kind=kind,
                binning=binning_hash, rows=item.rows, body=item.profile,
            )
        )


def baseline(
    connection: Connection, name: str, binning_hash: str, before: datetime, count: int, left_out: Sequence[tuple[datetime, datetime]],
) -> tuple[BaselineWindow, ...]:
    """The newest ``count`` profiled windows that end at or before ``before``, in order.

    Per window the newest revision; windows that start inside one of ``left_out`` (half-open) do not count, nor do empty
    ones.
    """
    p = t.profile.c
    query = (
        sa.select(p.start, p.end, p.revision, p.rows, p.body)
        .where(p.monitor == name, p.binning == binning_hash, p.kind.in_(("window", "reference")), p.end <= before)
        .order_by(p.start.desc(), p.revision.desc(), p.kind.desc())
        .limit(4 * count + 200)
    )
    found: dict[datetime, BaselineWindow] = {}
    for row in connection.execute(query):
        if row.start in found or not row.rows or any(a <= row.start < b for a, b in left_out):
            continue
        found[row.start] = BaselineWindow(Window(row.start, row.end), row.revision, row.body)
        if len(found) == count:
            break
    return tuple(sorted(found.values(), key=lambda b: b.window.start))


def small_before(connection: Connection, name: str, binning_hash: str, before: datetime, least: int, count: int) -> tuple[BaselineWindow, ...]:
    """The windows just before ``before`` that had some rows, but fewer than ``least``, in order; at most ``count``.

    A window whose drift was judged, as others had been carried into it, ends the search: what was judged is spent.
    """
    r, p, x = t.run.c, t.profile.c, t.result.c
    judged = sa.select(x.value).where(x.run_id == r.id, x.rule == "drift").scalar_subquery()
    query = sa.select(r.start, r.end, r.rows, r.revision, r.error, judged.label("judged")).where(r.monitor == name, r.current, r.start < before)
    found: list[BaselineWindow] = []
    for row in connection.execute(query.order_by(r.start.desc()).limit(count)):
        if row.rows >= least or row.error or row.judged is not None:
            break
        if row.rows:
            body = connection.execute(
                sa.select(p.body).where(p.monitor == name, p.start == row.start, p.kind == "window", p.binning == binning_hash)
                .order_by(p.revision.desc()).limit(1)
            ).scalar()
            if body is not None:
                found.append(BaselineWindow(Window(row.start, row.end), row.revision, body))
    return tuple(reversed(found))


def pieces(connection: Connection, name: str, binning_hash: str, since: datetime, until: datetime) -> list[BaselineWindow]:
    """The newest profile of every window that starts in ``[since, until)``, in order."""
    p = t.profile.c
    query = (
        sa.select(p.start, p.end, p.revision, p.body)
        .where(p.monitor == name, p.binning == binning_hash, p.kind.in_(("window", "reference")), p.start >= since, p.start < until)
        .order_by(p.start, p.revision, p.kind)
    )
    newest = {row.start: BaselineWindow(Window(row.start, row.end), row.revision, row.body) for row in connection.execute(query)}
    return list(newest.values())


def rolled(connection: Connection, name: str, binning_hash: str, start: datetime) -> bool:
    """Whether the day that starts so is stored merged."""
    p = t.profile.c
    query = sa.select(sa.func.count()).where(p.monitor == name, p.binning == binning_hash, p.kind == "rollup", p.start == start)
    return bool(connection.execute(query).scalar_one())


def merged_days(connection: Connection, name: str, binning_hash: str, before: datetime, count: int) -> list[Day]:
    """The newest ``count`` days before ``before`` that are stored merged, each at its newest revision."""
    p = t.profile.c
    query = (
        sa.select(p.start, p.end, p.revision, p.body)
        .where(p.monitor == name, p.binning == binning_hash, p.kind == "rollup", p.end <= before)
        .order_by(p.start.desc(), p.revision.desc()).limit(2 * count)
    )
    found: dict[datetime, Day] = {}
    for row in connection.execute(query):
        found.setdefault(row.start, Day(Window(row.start, row.end), (row.body,), row.revision))
    return list(found.values())[:count]


def profile_of(connection: Connection, name: str, start: datetime, revision: int, kind: str = "window") -> bytes | None:
    """A stored profile."""
    p = t.profile.c
    query = sa.select(p.body).where(p.monitor == name, p.start == start, p.revision <= revision, p.kind == kind)
    return connection.execute(query.order_by(p.revision.desc()).limit(1)).scalar()


def baseline_of(connection: Connection, name: str, pinned: Sequence[Sequence[Any]]) -> tuple[BaselineWindow, ...]:
    """The baseline that a run pinned, as far as its profiles are still kept."""
    found = []
    p = t.profile.c
    for start, revision in pinned:
        row = connection.execute(
            sa.select(p.start, p.end, p.body).where(
                p.monitor == name, p.start == datetime.fromisoformat(start), p.revision == revision,
                p.kind.in_(("window", "reference")),
            )
        ).first()
        if row is not None:
            found.append(BaselineWindow(Window(row.start, row.end), revision, row.body))
    return tuple(found)


def current_run(connection: Connection, name: str, start: datetime) -> Row[Any] | None:
    """The newest revision of a window."""
    r = t.run.c
    return connection.execute(sa.select(t.run).where(r.monitor == name, r.start == start, r.current)).one_or_none()


def run_by_id(connection: Connection, run: int) -> Row[Any] | None:
    """One run by its number."""
    return connection.execute(sa.select(t.run).where(t.run.c.id == run)).one_or_none()


def run_of(connection: Connection, name: str, start: datetime, revision: int | None) -> Row[Any] | None:
    """A revision of a window, or (None) the newest."""
    if revision is None:
        return current_run(connection, name, start)
    r = t.run.c
    return connection.execute(sa.select(t.run).where(r.monitor == name, r.start == start, r.revision == revision)).one_or_none()


def section_before(connection: Connection, name: str, start: datetime, section: str) -> tuple[datetime, dict[str, Any]] | None:
    """The newest window before ``start`` that has a run with that section, and the section."""
    r = t.run.c
    query = sa.select(r.start, r.sections).where(r.monitor == name, r.current, r.start < start, r.error == "")
    for row in connection.execute(query.order_by(r.start.desc()).limit(5)):
        if row.sections.get(section):
            return row.start, row.sections[section]
    return None


def contract_change(connection: Connection, name: str, until: datetime, count: int = 60) -> dict[str, Any] | None:
    """The last change of the contract in the ``count`` windows up to ``until``: from, to, and the first window under it."""
    r = t.run.c
    query = sa.select(r.start, r.contract_id, r.contract_version, r.contract_hash).where(
        r.monitor == name, r.current, r.start <= until, r.contract_hash != "",
    )
    later = None
    for row in connection.execute(query.order_by(r.start.desc()).limit(count)):
        if later is not None and row.contract_hash != later.contract_hash:
            ends = [{"id": x.contract_id, "version": x.contract_version, "hash": x.contract_hash} for x in (row, later)]
            return {"from": ends[0], "to": ends[1], "window": iso(later.start)}
        later = row
    return None


def key_digests(connection: Connection, name: str, before: datetime, count: int) -> tuple[tuple[datetime, bytes], ...]:
    """The digests of the keys of the newest ``count`` windows before ``before``, oldest first, each at its newest revision."""
    p = t.profile.c
    query = sa.select(p.start, p.body).where(p.monitor == name, p.kind == "keys", p.start < before)
    found: dict[datetime, bytes] = {}
    for row in connection.execute(query.order_by(p.start.desc(), p.revision.desc()).limit(3 * count)):
        if row.start not in found and len(found) < count:
            found[row.start] = row.body
    return tuple(sorted(found.items()))


def evaluated_starts(connection: Connection, name: str, since: datetime) -> dict[datetime, tuple[str, datetime | None]]:
    """Verdict and time of retry of every evaluated window from ``since`` on."""
    r = t.run.c
    query = sa.select(r.start, r.verdict, r.retry_at).where(r.monitor == name, r.current, r.start >= since)
    return {row.start: (row.verdict, row.retry_at) for row in connection.execute(query)}


def recent_runs(connection: Connection, name: str | None, since: datetime | None = None, limit: int | None = None) -> list[Row[Any]]:
    """Current runs, newest first, without their sections."""
    r = t.run.c
    columns = [c for c in t.run.c if c.name not in ("sections", "baseline")]
    query = sa.select(*columns).where(r.current).order_by(r.start.desc(), r.monitor)
    if name is not None:
        query = query.where(r.monitor == name)
    if since is not None:
        query = query.where(r.start >= since)
    return list(connection.execute(query.limit(limit) if limit else query))


def served(connection: Connection, name: str, limit: int = 60) -> list[Row[Any]]:
    """Start and versions of the newest current runs, newest first."""
    r = t.run.c
    query = sa.select(r.start, r.model_versions).where(r.monitor == name, r.current).order_by(r.start.desc())
    return list(connection.execute(query.limit(limit)))


def insert_run(connection: Connection, values: dict[str, Any], results: Sequence[RuleResult], violations: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Store a run as the current one of its window; answers its id and revision.

    A run that failed as a whole, and says why in ``error``, is replaced by its retry at the same revision; any other becomes
    the revision before. A verdict of error may also be that of one rule: such a run is complete.
    """
    old = current_run(connection, values["monitor"], values["start"])
    revision = 1
    attempts = 1
    if old is not None:
        if old.error:
            revision, attempts = old.revision, old.attempts + 1
            connection.execute(t.result.delete().where(t.result.c.run_id == old.id))
            connection.execute(t.violation.delete().where(t.violation.c.run_id == old.id))
            connection.execute(t.run.delete().where(t.run.c.id == old.id))
        else:
            revision = old.revision + 1
            connection.execute(t.run.update().where(t.run.c.id == old.id).values(current=False))
    inserted = connection.execute(
        t.run.insert().values(**values, revision=revision, current=True, attempts=attempts).returning(t.run.c.id)
    )
    run_id = int(inserted.scalar_one())
    if results:
        rows = [{**{c: getattr(result, c) for c in RESULT_COLUMNS}, "run_id": run_id} for result in results]
        insert = t.result.insert()
        if connection.dialect.name == "postgresql":  # so that they go as one statement, and not as one each
            insert = insert.returning(t.result.c.run_id)
        connection.execute(insert, rows)
    if violations:
        connection.execute(t.violation.insert(), [{"run_id": run_id, "rule": v["rule"], "body": v} for v in violations])
    return run_id, revision


def results_since(connection: Connection, name: str, since: datetime, also: Collection[str]) -> list[tuple[Window, list[RuleResult]]]:
    """The current results of every window from ``since`` on, in order: of the rules in ``also``, and of all that did not always hold.

    What held in every one of the windows, as nearly all rules do, says nothing that a decision could rest on.
    """
    r = t.run.c
    runs = connection.execute(
        sa.select(r.id, r.start, r.end).where(r.monitor == name, r.current, r.start >= since).order_by(r.start)
    ).all()
    by_run: dict[int, list[RuleResult]] = {row.id: [] for row in runs}
    x, here = t.result.c, (r.monitor == name, r.current, r.start >= since)
    broken = sa.select(x.rule).distinct().join(t.run, r.id == x.run_id).where(*here, x.verdict != "pass")
    rules = sorted({*connection.execute(broken).scalars(), *also})
    if not rules:
        return [(Window(row.start, row.end), []) for row in runs]
    query = sa.select(x.run_id, *(x[c] for c in RESULT_COLUMNS)).join(t.run, r.id == x.run_id).where(*here, x.rule.in_(rules))
    for run_id, *values in connection.execute(query).all():
        by_run[run_id].append(RuleResult(*values))
    return [(Window(row.start, row.end), by_run[row.id]) for row in runs]


def results_of(connection: Connection, run_id: int) -> list[RuleResult]:
    """The results of one run."""
    columns = [t.result.c[c] for c in RESULT_COLUMNS]
    return [RuleResult(*row) for row in connection.execute(sa.select(*columns).where(t.result.c.run_id == run_id))]


def prune(
    connection: Connection, profiles: timedelta, results: timedelta, hourly: timedelta | None = None, rolled: Collection[str] = (),
) -> None:
    """Forget what is older than the retention says; announcements, tokens and audit rows stay.

    Age is counted from each monitor's newest window, so that the replay of an old log keeps what it found. The window
    profiles of the monitors in ``rolled`` are kept for ``hourly``, their days for ``profiles``.
    """
    newest = connection.execute(sa.select(t.run.c.monitor, sa.func.max(t.run.c.end)).group_by(t.run.c.monitor)).all()
    for name, end in newest:
        p = t.profile.c
        kept = p.kind != "calibration"  # of the reference, which the settings keep as well
        connection.execute(t.profile.delete().where(p.monitor == name, p.end < end - profiles, kept))
        if name in rolled and hourly is not None:
            days = connection.execute(sa.select(p.start, p.end).where(p.monitor == name, p.kind == "rollup", p.end < end - hourly)).all()
            for day in days:  # whole days, and only those that are kept merged
                pieces = (p.monitor == name, p.kind.in_(("window", "outputs")), p.start >= day.start, p.end <= day.end)
                connection.execute(t.profile.delete().where(*pieces))
        gone = (t.run.c.monitor == name, t.run.c.end < end - results)
        old = sa.select(t.run.c.id).where(*gone)
        connection.execute(t.result.delete().where(t.result.c.run_id.in_(old)))
        connection.execute(t.violation.delete().where(t.violation.c.run_id.in_(old)))
        connection.execute(t.run.delete().where(*gone))


def newest_end(connection: Connection, name: str) -> datetime | None:
    """The end of a monitor's newest evaluated window."""
    return connection.execute(sa.select(sa.func.max(t.run.c.end)).where(t.run.c.monitor == name)).scalar()


def count_runs(connection: Connection, name: str) -> int:
    """How many windows of a monitor have a current run."""
    query = sa.select(sa.func.count()).select_from(t.run).where(t.run.c.monitor == name, t.run.c.current)
    return int(connection.execute(query).scalar_one())


def history(connection: Connection, name: str, since: datetime, until: datetime) -> list[Row[Any]]:
    """Start, verdict and rows of the current runs in a range, in order; both ends count."""
    r = t.run.c
    query = sa.select(r.start, r.verdict, r.rows).where(r.monitor == name, r.current, r.start >= since, r.start <= until)
    return list(connection.execute(query.order_by(r.start)))


def metric_history(connection: Connection, name: str, since: datetime, until: datetime) -> list[Row[Any]]:
    """Start, rule, value, low and high of the whole window's quality rules in a range, in order."""
    r, x = t.run.c, t.result.c
    query = (
        sa.select(r.start, x.rule, x.value, x.low, x.high).join(t.run, r.id == x.run_id)
        .where(r.monitor == name, r.current, r.start >= since, r.start <= until, x.slice == "ALL", x.value.is_not(None))
    )
    return list(connection.execute(query.order_by(r.start)))


def drift_p_values(connection: Connection, name: str, since: datetime, until: datetime) -> list[float]:
    """The p-values of the drift rule in a range, in order; both ends count."""
    r, x = t.run.c, t.result.c
    query = (
        sa.select(x.value).join(t.run, r.id == x.run_id)
        .where(r.monitor == name, r.current, r.start >= since, r.start <= until, x.rule == "drift", x.value.is_not(None))
    )
    return [float(value) for value in connection.execute(query.order_by(r.start)).scalars()]


def unusual(connection: Connection, name: str, since: datetime, until: datetime) -> list[datetime]:
    """The windows that start in ``[since, until)`` whose drift was beyond its limit, whatever followed from it, in order."""
    return _drifted(connection, name, since, until, t.result.c.verdict.in_(("warn", "fail")))


def watched(connection: Connection, name: str, since: datetime, until: datetime) -> list[datetime]:
    """The windows that start in ``[since, until)`` in which drift was held back, in order."""
    return _drifted(connection, name, since, until, t.result.c.state == "watch")


def _drifted(connection: Connection, name: str, since: datetime, until: datetime, how: sa.ColumnElement[bool]) -> list[datetime]:
    r, x = t.run.c, t.result.c
    held = (r.monitor == name, r.current, r.start >= since, r.start < until, x.rule == "drift", how)
    return list(connection.execute(sa.select(r.start).join(t.result, r.id == x.run_id).where(*held).order_by(r.start)).scalars())
