"""The loop: on every tick, look at each monitor that is due, evaluate its windows in order, deliver, follow rollbacks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import IntegrityError

from checks.core.errors import DriftdError, SourceError, StoreError, WorkerError
from checks.core.window import Window, iso
from monitor.alerting.silence import silent_since
from monitor.announce import Announcer
from monitor.clock import Clock
from monitor.config.model import Config
from monitor.delivery.calls import action_senders
from monitor.delivery.rollback import RollbackDispatcher
from monitor.delivery.worker import OutboxWorker
from monitor.deployments import DeploymentWatch
from monitor.pipeline import LeaseLost, Pipeline
from monitor.ports import Observation, Sender, Workers
from monitor.prepare import Prepared
from monitor.schedule import retry_wait
from monitor.store.store import Store, heartbeat, holds_lease, reclaim, release_lease, take_lease
from monitor.upkeep import Upkeep
from monitor.verification import Verification

LOG = structlog.get_logger("driftd.daemon")
LEASE = timedelta(seconds=60)
TRIES = 3
"""Looks in a row that fail before the platform hears that a monitor cannot be watched."""

TURN = 10
"""Windows after which a monitor that catches up lets others have their turn."""

ReportWriter = Callable[[str, Window], None]


class Quarantined(DriftdError):
    """A monitor's scan broke its limit of time or memory: it is left alone for a while, and the others go on."""


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
        self._busy: dict[str, datetime] = {}
        self.begun = clock.now()
        self._go_on: set[str] = set()
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self.stopping = self.pipeline.aborting
        self.progress: dict[str, datetime] = {}
        self.problems: dict[str, str] = {}
        self.rounds = 0
        self._actions = action_senders(config.monitors)
        self.upkeep = Upkeep(store, self.pipeline, clock, lambda: self._senders)
        self.verification = Verification(store, self.pipeline, workers, clock)
        self.outbox = OutboxWorker(store, lambda: {**self._senders, **self._actions}, clock, self.owner, self.upkeep.dead_letter)
        self.deployments = DeploymentWatch(store, workers, clock, self.pipeline.calibrations, lambda: self.config, self.pipeline.fenced)
        self.rollbacks = RollbackDispatcher(
            store, lambda: self.config.monitors, clock, self.owner, self.verification.changed, self.verification.recheck,
        )

    @property
    def config(self) -> Config:
        return self.pipeline.config

    def reload(self, config: Config, senders: Mapping[str, Sender]) -> None:
        """Go on with another configuration."""
        self.pipeline.config = config
        self._senders = dict(senders)
        self._actions = action_senders(config.monitors)
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
        """Look at every due monitor, one after the other, do what time asks for, and deliver."""
        for name in self.due_monitors():
            self.look(name)
        self.keep_up()
        self.deliver()

    def beat(self) -> None:
        """Write to the store, so that a database that takes no writes is noticed before it matters."""
        try:
            with self.store.write() as connection:
                heartbeat(connection, self.owner, self.clock.now())
            self.progress["write"] = self.clock.now()
        except StoreError as error:
            LOG.error("the store takes no writes", reason=str(error))

    def keep_up(self) -> None:
        """Reminders, ends of silences, and what else is due because time has passed."""
        self.upkeep.tick()
        self.progress["keep_up"] = self.clock.now()

    def look(self, name: str) -> None:
        """Everything that is due for one monitor; what goes wrong is recorded and stops no other."""
        with self._lock:
            if name in self._busy:
                return
            begun = self._busy[name] = self.clock.now()
        try:
            if self._lease(name):
                unseen = self._look(name)
                if self._failures.get(name) != 0:
                    self._failures[name] = 0
                    self.upkeep.watched_again(name)
                self.problems.pop(name, None)
                if unseen:
                    self.problems[name] = unseen
                if name in self._go_on:  # in its turn, after those that wait
                    self._go_on.discard(name)
                    self._look_at[name] = self.clock.now()
                else:
                    self._next(name, begun)
        except LeaseLost as error:
            LOG.warning("lease lost", monitor=name, reason=str(error))
            self._look_at[name] = self.clock.now() + LEASE
        except (DriftdError, IntegrityError) as error:
            self._failed(name, str(error))
        except Exception as error:  # the edge of a run: one monitor's surprise must not stop the others
            self._failed(name, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._busy.pop(name, None)
            self.progress["evaluate"] = self.clock.now()

    def _failed(self, name: str, reason: str) -> None:
        if self.stopping.is_set():
            return
        self._failures[name] = self._failures.get(name, 0) + 1
        wait = retry_wait(self._failures[name])
        self._look_at[name] = self.clock.now() + wait
        self.problems[name] = reason
        LOG.error("monitor not looked at", monitor=name, reason=reason, again_in_seconds=wait.total_seconds())
        if self._failures[name] >= TRIES and not reason.startswith("quarantined"):
            try:
                self.upkeep.unwatched(name, reason)
            except DriftdError as error:
                LOG.warning("nothing said of it", monitor=name, reason=str(error))

    def _next(self, name: str, now: datetime) -> None:
        """When the monitor is looked at again, counted from when this look began."""
        monitor = self.config.monitors.get(name)
        if monitor is None:
            return
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
        for count, (kind, window) in enumerate(work):
            if self.stopping.is_set():
                return unseen
            if count and count % TURN == 0 and self._others_wait(name):
                self._go_on.add(name)
                return unseen
            self._busy[name] = self.clock.now()
            if not self._lease(name):
                raise LeaseLost(f"monitor {name}: another daemon has taken it over")
            if kind == "labels":
                done = self.pipeline.relabel(name, window, others.get(window.start))
            else:
                done = bool(self.pipeline.evaluate(name, window))
                if name in self.pipeline.over_limit:
                    self._caught_up(prepared)
                    raise Quarantined(f"quarantined: {self.pipeline.over_limit.pop(name)}")
            if done and self._report is not None:
                self._write_report(name, window)
        self._caught_up(prepared)
        if not unseen:
            self.verification.look(prepared, self.rollbacks)
        return unseen

    def _others_wait(self, name: str) -> bool:
        """Whether another monitor is due that nobody looks at."""
        return any(other != name for other in self.due_monitors())

    def stuck(self, longest: timedelta) -> list[str]:
        """The monitors of which no window has come to an end for so long, though somebody looks at them."""
        now = self.clock.now()
        with self._lock:
            return [name for name, at in self._busy.items() if now - at > longest]

    def clock_set_back(self) -> None:
        """The machine's clock was set back: what was to be looked at later, by a time that is in the future again, is looked at now."""
        self._look_at.clear()
        self.progress.clear()
        self.begun = self.clock.now()

    def _caught_up(self, prepared: Prepared) -> None:
        """All that was due is done: what waited for that is let go."""
        with self.store.write() as connection:
            self.pipeline.fenced(connection, prepared.monitor.name)
            Announcer(self.config, prepared).caught_up(connection, self.clock.now())

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

    def deliver(self, *, wait: bool = True) -> None:
        """Send what is due and follow the rollbacks; without ``wait`` both are done in threads of their own."""
        with self._delivering:
            try:
                self.outbox.deliver_due(wait=wait)
                self.rollbacks.run(wait=wait)
                self.outbox.deliver_due(wait=wait)
                self.progress["deliver"] = self.clock.now()
                self.rounds += 1
            except StoreError as error:
                LOG.error("not delivered", reason=str(error))

    # -- beginning and ending

    def reclaim(self) -> None:
        """Take over at once what a killed daemon of this machine held, instead of waiting for its leases to run out."""
        with self.store.write() as connection:
            ended = reclaim(connection, _dead_here)
        if ended:
            LOG.info("leases of a dead daemon ended", leases=ended)

    def close(self) -> None:
        """Give everything back: what is claimed of messages, and the monitors."""
        try:
            self.outbox.close()
        except DriftdError as error:
            LOG.warning("messages not released", reason=str(error))
        self.release()

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
