"""The loop: on every tick, look at each monitor that is due, evaluate its windows in order, deliver, follow rollbacks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from checks.core.errors import DriftdError, SourceError, StoreError, WorkerError
from checks.core.window import Window, iso
from monitor.alerting.incidents import UPDATED
from monitor.alerting.silence import silent_since
from monitor.announce import Announcer, Committed, kill_switch
from monitor.clock import Clock
from monitor.config.model import Config
from monitor.delivery.rollback import RollbackDispatcher
from monitor.delivery.worker import OutboxWorker
from monitor.deployments import DeploymentWatch
from monitor.pipeline import LeaseLost, Pipeline
from monitor.ports import Observation, Sender, VersionsJob, Workers
from monitor.prepare import Prepared
from monitor.schedule import retry_wait
from monitor.store import incidents, runs
from monitor.store.store import Store, holds_lease, reclaim, release_lease, take_lease

LOG = structlog.get_logger("driftd.daemon")
LEASE = timedelta(seconds=60)
ENOUGH_ROWS = 20
VERIFIED_SHARE = 0.95

ReportWriter = Callable[[str, Window], None]


class Watch:
    """Watches every monitor of a configuration: what the daemon does in each of its ticks, without its threads.

    Parameters
    ----------
    report : writes the report of a window after its commit.
    owner : names this process in leases.
    """

    def __init__(
        self, config: Config, store: Store, workers: Workers, clock: Clock, senders: Mapping[str, Sender], report: ReportWriter | None,
        owner: str | None = None,
    ) -> None:
        self.owner = owner or f"{_place()}:{os.getpid()}:{os.urandom(3).hex()}"
        self.pipeline = Pipeline(config, store, workers, clock, self.owner)
        self.store, self.clock, self.workers = store, clock, workers
        self._senders = dict(senders)
        self._report = report
        self._look_at: dict[str, datetime] = {}
        self._failures: dict[str, int] = {}
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self.stopping = self.pipeline.aborting
        self.progress: dict[str, datetime] = {}
        self.problems: dict[str, str] = {}
        self.outbox = OutboxWorker(store, lambda: self._senders, clock, self.owner)
        self.deployments = DeploymentWatch(store, workers, clock, self.pipeline.calibrations, lambda: self.config, self.pipeline.fenced)
        self.rollbacks = RollbackDispatcher(
            store, lambda: self.config.monitors, clock, self.owner, self._rollback_changed, self._recheck,
        )

    @property
    def config(self) -> Config:
        return self.pipeline.config

    def reload(self, config: Config, senders: Mapping[str, Sender]) -> None:
        """Go on with another configuration."""
        self.pipeline.config = config
        self._senders = dict(senders)
        self._look_at.clear()

    def writes_reports(self, report: ReportWriter) -> None:
        """Call ``report`` after every commit."""
        self._report = report

    def stop(self) -> None:
        """Begin nothing new."""
        self.stopping.set()
        self.outbox.stop()

    # -- evaluating

    def due_monitors(self) -> list[str]:
        """The monitors whose time to be looked at has come and that no thread is looking at."""
        now = self.clock.now()
        with self._lock:
            return [n for n in self.config.monitors if self._look_at.get(n, now) <= now and n not in self._busy]

    def tick(self) -> None:
        """Look at every due monitor, one after the other, and deliver."""
        for name in self.due_monitors():
            self.look(name)
        self.deliver()

    def look(self, name: str) -> None:
        """Everything that is due for one monitor; what goes wrong is recorded and stops no other."""
        with self._lock:
            if name in self._busy:
                return
            self._busy.add(name)
        try:
            if self._lease(name):
                unseen = self._look(name)
                self._failures[name] = 0
                self.problems.pop(name, None)
                if unseen:
                    self.problems[name] = unseen
                self._next(name)
        except LeaseLost as error:
            LOG.warning("lease lost", monitor=name, reason=str(error))
            self._look_at[name] = self.clock.now() + LEASE
        except (DriftdError, IntegrityError) as error:
            self._failed(name, str(error))
        except Exception as error:  # the edge of a run: one monitor's surprise must not stop the others
            self._failed(name, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._busy.discard(name)
            self.progress["evaluate"] = self.clock.now()

    def _failed(self, name: str, reason: str) -> None:
        if self.stopping.is_set():
            return
        self._failures[name] = self._failures.get(name, 0) + 1
        wait = retry_wait(self._failures[name])
        self._look_at[name] = self.clock.now() + wait
        self.problems[name] = reason
        LOG.error("monitor not looked at", monitor=name, reason=reason, again_in_seconds=wait.total_seconds())

    def _next(self, name: str) -> None:
        monitor = self.config.monitors.get(name)
        if monitor is None:
            return
        now = self.clock.now()
        if monitor.schedule.cron:
            from apscheduler.triggers.cron import CronTrigger

            following = CronTrigger.from_crontab(monitor.schedule.cron, timezone="UTC").get_next_fire_time(None, now)
            self._look_at[name] = following if following is not None else now + timedelta(hours=1)
            return
        size = self.pipeline.prepare(name).settings.size_seconds
        self._look_at[name] = now + (monitor.schedule.every or timedelta(seconds=min(size / 4, 3600.0)))

    def renew(self) -> None:
        """Extend the leases of the monitors that are being looked at, however long their scans take."""
        with self._lock:
            busy = [name for name in self._busy if name in self.pipeline.fences]
        if busy and not self.stopping.is_set():
            with self.store.write() as connection:
                for name in busy:
                    if holds_lease(connection, f"monitor/{name}", self.owner, self.pipeline.fences[name]):
                        take_lease(connection, f"monitor/{name}", self.owner, self.clock.now(), LEASE)

    def _lease(self, name: str) -> bool:
        with self.store.write() as connection:
            epoch = take_lease(connection, f"monitor/{name}", self.owner, self.clock.now(), LEASE)
        if epoch is None:
            self._look_at[name] = self.clock.now() + LEASE / 2
            return False
        self.pipeline.fences[name] = epoch
        return True

    def _look(self, name: str) -> str:
        """Do what is due; answers why the source could not be observed, or empty."""
        prepared = self.pipeline.prepare(name)
        changed: list[Window] = []
        labelled: list[Window] = []
        unseen = ""
        others: dict[datetime, str] = {}
        try:
            seen, changed, labelled = self.pipeline.observe(prepared)
            others = seen.others
            self.pipeline.remember(prepared, seen, self._silent(prepared, seen))
        except (SourceError, WorkerError) as error:
            if self.stopping.is_set():
                raise
            unseen = str(error)  # the due windows will say so themselves, as runs in error
            LOG.warning("source not observed", monitor=name, reason=unseen)
        if not unseen:
            self._watch_versions(prepared)
        # Windows first, in order; then what late data and late labels say of older ones.
        work: list[tuple[str, Window]] = [("window", w) for w in self.pipeline.due(prepared)]
        work += [("changed", w) for w in changed] + [("labels", w) for w in labelled if w not in changed]
        for kind, window in work:
            if self.stopping.is_set():
                return unseen
            if not self._lease(name):
                raise LeaseLost(f"monitor {name}: another daemon has taken it over")
            if kind == "labels":
                done = self.pipeline.relabel(name, window, others.get(window.start))
            else:
                done = bool(self.pipeline.evaluate(name, window))
            if done and self._report is not None:
                self._write_report(name, window)
        if not unseen:
            self._verify(prepared)
        return unseen

    def _watch_versions(self, prepared: Prepared) -> None:
        """Look at new versions, before their windows are evaluated; what goes wrong does not keep the windows waiting."""
        try:
            self.deployments.look(prepared)
        except (DriftdError, IntegrityError) as error:
            if self.stopping.is_set() or isinstance(error, LeaseLost):
                raise
            LOG.warning("new versions not watched", monitor=prepared.monitor.name, reason=str(error))

    def _write_report(self, name: str, window: Window) -> None:
        assert self._report is not None
        try:
            self._report(name, window)
        except (DriftdError, OSError) as error:
            LOG.warning("report not written", monitor=name, window=iso(window.start), reason=str(error))

    def _silent(self, prepared: Prepared, seen: Observation) -> datetime | None:
        after = prepared.monitor.service.silent_after
        gap = timedelta(seconds=seen.usual_gap or prepared.settings.size_seconds)
        return silent_since(seen.newest_event, self.clock.now(), gap, None if after == "auto" else after, prepared.end)

    # -- delivering

    def deliver(self) -> None:
        """Send what is due and follow the rollbacks."""
        with self._delivering:
            self._deliver()

    def _deliver(self) -> None:
        try:
            self.outbox.deliver_due()
            self.rollbacks.run()
            self.outbox.deliver_due()
            self.progress["deliver"] = self.clock.now()
        except StoreError as error:
            LOG.error("not delivered", reason=str(error))

    def _rollback_changed(self, connection: Connection, incident: int, why: str) -> None:
        row = incidents.get(connection, incident)
        prepared = self.pipeline.known(row.monitor)
        if prepared is not None:
            run = runs.current_run(connection, row.monitor, row.last_window)
            window = Window(run.start, run.end) if run is not None else prepared.grid.at(row.last_window)
            done = Committed(window, self.clock.now(), True)
            Announcer(self.config, prepared).announce(connection, incident, UPDATED, done, why)

    def _recheck(self, connection: Connection, rollback: Row[Any]) -> str:
        """The guards that can have changed since the decision."""
        incident = incidents.get(connection, rollback.incident_id)
        if kill_switch(self.config):
            return "the kill switch is set"
        if incident.hold_by:
            return f"held by {incident.hold_by}"
        if incident.state != "open":
            return f"the incident is {incident.state}"
        newest = runs.recent_runs(connection, rollback.monitor, limit=1)
        versions = newest[0].model_versions if newest else {}
        if versions and rollback.from_version not in versions:
            return f"{rollback.from_version} does not serve any more"
        return ""

    def _verify(self, prepared: Prepared) -> None:
        """Verification A: after the grace, at least 95% of prediction rows carry the target version."""
        with self.store.read() as connection:
            waiting = [r for r in incidents.rollbacks(connection, prepared.monitor.name) if r.state == "confirmed"]
        for row in waiting:
            since = row.confirmed_at + prepared.monitor.rollback.settle
            now = self.clock.now()
            if now <= since:
                continue
            versions: dict[str, int] = self.workers.run(VersionsJob(prepared.monitor, since, now))
            rows = sum(versions.values())
            if rows < ENOUGH_ROWS:
                continue
            share = versions.get(row.to_version, 0) / rows
            state = "verified" if share >= VERIFIED_SHARE else "failed"
            detail = f"{share:.0%} of {rows} rows since {iso(since)} carry {row.to_version}"
            self.rollbacks.set_state(row, state, detail)
            self.deliver()

    # -- beginning and ending

    def reclaim(self) -> None:
        """Take over at once what a killed daemon of this machine held, instead of waiting for its leases to run out."""
        with self.store.write() as connection:
            ended = reclaim(connection, _dead_here)
        if ended:
            LOG.info("leases of a dead daemon ended", leases=ended)

    def release(self) -> None:
        """Give the leases back, so that another daemon need not wait for them to run out."""
        try:
            with self.store.write() as connection:
                for name in self.pipeline.fences:
                    release_lease(connection, f"monitor/{name}", self.owner)
        except DriftdError as error:
            LOG.warning("leases not released", reason=str(error))


def _place() -> str:
    """This machine and its process namespace, within which a process number means something."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{os.uname().nodename}/{namespace}"


def _dead_here(owner: str) -> bool:
    """Whether a lease's owner was a process of this machine that is no more."""
    place, _, rest = owner.partition(":")
    number = rest.partition(":")[0]
    if place != _place() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
