"""The deployment watch: notices a new model version, and compares it with the old one from hour to hour before labels come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row

from checks.core.window import Window, iso
from monitor.announce import Announcer
from monitor.clock import Clock
from monitor.config.model import Config
from monitor.labelling import Calibrations
from monitor.ports import DeploymentAnswer, DeploymentJob, HoursJob, ProfiledWindow, VersionsJob, Workers
from monitor.prepare import Prepared
from monitor.store import deployments, incidents, runs
from monitor.store.store import Store

LOG = structlog.get_logger("driftd.deployment")
HOUR = timedelta(hours=1)
DAYS = timedelta(days=7)
"""How far back the old version's same hours are looked up."""

IDLE, GONE = timedelta(hours=3), timedelta(days=1)
"""A version that has no row for so long, while others have, is worse than none now; does not serve any more."""

LONG = timedelta(days=25)
"""A version that is still worse so long after its watch should have ended is left to itself."""

LONGEST, LOOKED_AT = 200, 200


class DeploymentWatch:
    """Watches the versions of monitors that log one. All it knows is in the store, so that a restart loses nothing."""

    def __init__(
        self, store: Store, workers: Workers, clock: Clock, calibrations: Calibrations, config: Callable[[], Config],
        fenced: Callable[[Connection, str], None],
    ) -> None:
        self._store, self._workers, self._clock = store, workers, clock
        self._calibrations, self._config, self._fenced = calibrations, config, fenced
        self._seen: dict[str, datetime] = {}

    def look(self, prepared: Prepared) -> None:
        """Begin the watch of versions that are new, and judge those that are under watch."""
        monitor = prepared.monitor
        with self._store.read() as connection:
            watched = deployments.of_monitor(connection, monitor.name, "watched")
        if monitor.columns.version is None or not monitor.quality.deployment.watch:
            for row in watched:
                self._end(prepared, row, "it is not watched any more")
            return
        horizon = self._clock.now() - prepared.lateness
        if prepared.end is not None:
            horizon = min(horizon, prepared.end)
        horizon = horizon.replace(minute=0, second=0, microsecond=0)
        self._notice(prepared, horizon)
        with self._store.read() as connection:
            watched = deployments.of_monitor(connection, monitor.name, "watched")
        for row in watched:
            self._judge(prepared, row, horizon)

    def _notice(self, prepared: Prepared, horizon: datetime) -> None:
        """Begin the watch of every version that the log or a run of the last days has and no run before them had."""
        monitor, watch = prepared.monitor, prepared.monitor.quality.deployment.watch
        shadow = set(monitor.quality.shadow)
        size = timedelta(seconds=prepared.settings.size_seconds)
        with self._store.read() as connection:
            newest = [r for r in runs.recent_runs(connection, monitor.name, limit=LOOKED_AT) if not r.error]
        recent = [r for at, r in enumerate(newest) if not at or r.start >= horizon - watch - size]
        if not recent:
            return
        last = max(self._seen.get(monitor.name, recent[0].end), recent[0].end, horizon - watch)
        found: set[str] = set(self._workers.run(VersionsJob(monitor, last, horizon))) if horizon > last else set()
        self._seen[monitor.name] = max(horizon, last)
        served = {v: r for r in recent for v in r.model_versions}  # the oldest run that has it
        candidates = sorted(v for v in {*found, *served} if v and v not in shadow)
        if len(candidates) < 2 and not found - set(recent[0].model_versions):
            return
        with self._store.read() as connection:
            known = deployments.known_versions(connection, monitor.name, horizon - watch)
        for version in candidates:
            if version in known or len(version) > LONGEST:
                continue
            since = served[version].start if version in served else last
            before = next((r for r in newest if r.start <= since and set(r.model_versions) - {version, "", *shadow}), None)
            if before is None:
                continue
            first = self._first(prepared, version, since, min(served[version].end, horizon) if version in served else horizon)
            others = {v: n for v, n in before.model_versions.items() if v and v != version and v not in shadow}
            previous = max(others, key=lambda v: others[v])
            with self._store.write() as connection:
                self._fenced(connection, monitor.name)
                deployments.begin(connection, monitor.name, version, previous, first, first + watch, self._clock.now())
            LOG.info("new version under watch", monitor=monitor.name, version=version, previous=previous, since=iso(first))

    def _first(self, prepared: Prepared, version: str, since: datetime, until: datetime) -> datetime:
        """The hour in which a version was first seen, by halving: a span with it in its first half began there."""
        low, high = since.replace(minute=0, second=0, microsecond=0), until
        while high - low > HOUR:
            middle = low + ((high - low) // 2 // HOUR) * HOUR
            middle = middle if middle > low else low + HOUR
            there: dict[str, int] = self._workers.run(VersionsJob(prepared.monitor, low, middle))
            low, high = (low, middle) if version in there else (middle, high)
        return low

    def _judge(self, prepared: Prepared, row: Row[Any], horizon: datetime) -> None:
        monitor, name = prepared.monitor, prepared.monitor.name
        hours = self._hours(prepared, row, horizon)
        if not hours:
            return
        learned, _ = self._calibrations.of(prepared)
        job = DeploymentJob(monitor, prepared.settings, row.version, row.previous, row.first_seen, hours, learned)
        answer: DeploymentAnswer = self._workers.run(job)
        now = self._clock.now()
        last = max((h.window.start for h in hours if h.rows), default=row.first_seen)
        idle = last - answer.newest if answer.newest is not None else timedelta(0)
        verdict, sentence = answer.verdict, str(answer.body["sentence"])
        gone = idle >= GONE or (idle >= IDLE and self._rolled_back(row))
        if gone:
            verdict, sentence = "pass", f"{row.version} does not serve any more"
        elif idle >= IDLE:  # a canary may serve by day only: what was said of it stands until it serves again
            verdict = "insufficient"
        over = horizon >= row.until and answer.verdict != "fail"
        long = horizon >= row.until + LONG
        if long and verdict == "fail":
            verdict, sentence = "pass", f"its watch has ended, and it still was worse: {sentence}"
        elif over and verdict == "insufficient":
            sentence = f"the watch ended without enough rows: {sentence}"
        ended = gone or over or long
        window = Window(last, last + HOUR)
        with self._store.write() as connection:
            self._fenced(connection, name)
            incident = Announcer(self._config(), prepared).released(connection, row, window, now, sentence, verdict)
            deployments.update(
                connection, row.id, verdict=answer.verdict, body={**answer.body, **({"ended": sentence} if ended else {})}, updated_at=now,
                state="ended" if ended else "watched", incident_id=incident if incident is not None else row.incident_id,
            )
            if ended and not deployments.of_monitor(connection, name, "watched"):
                deployments.forget_hours(connection, name, horizon)
        if answer.verdict != row.verdict or ended:
            LOG.info("new version judged", monitor=name, version=row.version, verdict=answer.verdict, reason=sentence, ended=ended)

    def _rolled_back(self, row: Row[Any]) -> bool:
        """Whether the version was left by a rollback that is known to have worked."""
        if row.incident_id is None:
            return False
        with self._store.read() as connection:
            rollback = incidents.rollback_of(connection, row.incident_id)
        return rollback is not None and rollback.state in ("confirmed", "verified")

    def _end(self, prepared: Prepared, row: Row[Any], why: str) -> None:
        now = self._clock.now()
        with self._store.write() as connection:
            self._fenced(connection, prepared.monitor.name)
            window = Window(row.first_seen, row.first_seen + HOUR)
            Announcer(self._config(), prepared).released(connection, row, window, now, why, "pass")
            deployments.update(connection, row.id, state="ended", body={**row.body, "ended": why}, updated_at=now)

    def _hours(self, prepared: Prepared, row: Row[Any], horizon: datetime) -> tuple[ProfiledWindow, ...]:
        """The hours since the version was first seen, and the same hours of the days before; those not counted yet are counted now."""
        first, monitor = row.first_seen, prepared.monitor
        until = min(horizon, row.until) if row.verdict != "fail" else horizon
        mine = [first + i * HOUR for i in range(int((until - first) / HOUR))]
        served = {at.hour for at in mine}
        old = [first - DAYS + i * HOUR for i in range(int(DAYS / HOUR))]
        wanted = [*(at for at in old if at.hour in served), *mine]
        with self._store.read() as connection:
            known = {h.window.start for h in deployments.hours(connection, monitor.name, first - DAYS, until)}
        missing = tuple(at for at in wanted if at not in known)
        if missing:
            found: tuple[ProfiledWindow, ...] = self._workers.run(HoursJob(monitor, prepared.settings, missing))
            with self._store.write() as connection:
                self._fenced(connection, monitor.name)
                deployments.save_hours(connection, monitor.name, found)
        if not mine:
            return ()
        with self._store.read() as connection:
            return deployments.hours(connection, monitor.name, first - DAYS, until)
