"""Calling the rollback webhook: at most one effect, probed and verified."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row

from checks.core.errors import DeliveryError
from monitor.clock import Clock
from monitor.config.alerts import RollbackConfig
from monitor.config.model import MonitorConfig
from monitor.delivery.calls import live, post
from monitor.delivery.http import shown
from monitor.delivery.retry import delay
from monitor.store import incidents, outbox
from monitor.store.store import DISPATCH, Store, audit, one_at_a_time

LEASE = timedelta(seconds=60)
LOG = structlog.get_logger("driftd.rollback")
REQUESTED, DISPATCHED, ACCEPTED, UNKNOWN, CONFIRMED, FAILED, SUPERSEDED, EXPIRED, CANCELLED = (
    "requested", "dispatched", "accepted", "unknown", "confirmed", "failed", "superseded", "expired", "cancelled",
)
UNDER_WAY = (REQUESTED, DISPATCHED, ACCEPTED, UNKNOWN)
MOST_POSTS = 2
MOST_AT_ONCE = 16
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
"""Seconds between two looks at a rollback that is under way."""

STOPPED = "driftd was stopped before it was sent, and then it was too late"
STALE = LEASE / 2
"""A request that was not sent so soon after its intent was committed is not sent: by then another daemon may look after it."""

Announce = Callable[[Connection, int, str], None]
"""Tells the people of an incident, in the same transaction, that its rollback changed state."""

Recheck = Callable[[Connection, Row[Any]], str]
"""Why a decided rollback must not be sent any more, or empty: every guard again, from fresh evidence."""


class RollbackDispatcher:
    """Sends decided rollbacks and follows them until they are confirmed or have failed."""

    def __init__(
        self, store: Store, monitors: Callable[[], dict[str, MonitorConfig]], clock: Clock, owner: str, announce: Announce,
        recheck: Recheck,
    ) -> None:
        self._store = store
        self._monitors = monitors
        self._clock = clock
        self._owner = owner
        self._announce = announce
        self._recheck = recheck
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="driftd-rollback")
        self._running: dict[int, Future[None]] = {}
        self._asked: dict[tuple[int, str, int], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def run(self, *, wait: bool = True) -> None:
        """Dispatch what is due, and probe what is under way: each in a thread of its own, as an endpoint may hang. ``wait`` for them."""
        with self._store.read() as connection:
            rows = incidents.rollbacks(connection, None, UNDER_WAY)
        claimed: list[Row[Any]] = []
        if any(row.state == REQUESTED for row in rows):
            with self._store.write() as connection:
                claimed = outbox.claim(connection, self._owner, self._clock.now(), LEASE, ("rollback",))
        self._asked = {key: asked for key, asked in self._asked.items() if key[0] in {row.id for row in rows}}
        begun = [self._begin(row.incident_id, self._dispatch, row) for row in claimed]
        for row in rows:
            if row.state != REQUESTED and self._due(row):
                begun.append(self._begin(row.incident_id, self._follow, row))
        if wait:
            wait_for([future for future in begun if future is not None])

    def _due(self, row: Row[Any]) -> bool:
        """Whether a rollback is to be asked about now: at first every few seconds, then less often."""
        if row.state == DISPATCHED:
            return True
        asked, wait = self._asked.get((row.id, row.state, row.posts), (float("-inf"), 0.0))
        now = self._clock.monotonic()
        if now - asked < wait:
            return False
        self._asked[row.id, row.state, row.posts] = (now, min(max(2 * wait, FIRST_PAUSE), LONGEST_PAUSE))
        return True

    def _begin(self, incident: int, work: Callable[[Row[Any]], None], row: Row[Any]) -> Future[None] | None:
        """Do it in a thread, unless one of the same rollback is still under way."""
        with self._lock:
            running = self._running.get(incident)
            if running is not None and not running.done():
                return None
            self._running[incident] = self._pool.submit(self._guarded, work, row)
            return self._running[incident]

    @staticmethod
    def _guarded(work: Callable[[Row[Any]], None], row: Row[Any]) -> None:
        try:
            work(row)
        except Exception as error:  # the edge of a rollback: what goes wrong with one keeps none of the others
            LOG.error("rollback not followed", incident=f"INC-{row.incident_id}", reason=f"{type(error).__name__}: {error}")

    def _follow(self, row: Row[Any]) -> None:
        now = self._clock.now()
        if row.state == DISPATCHED:
            if row.dispatched_at and now - row.dispatched_at > LEASE:
                monitor = self._monitors().get(row.monitor)
                settle = now + (monitor.rollback.settle if monitor else LEASE)
                self.set_state(row, UNKNOWN, "driftd stopped after it had sent the request", settle_until=settle)
        elif row.monitor in self._monitors():
            self._probe(row)
        elif row.settle_until is None or now >= row.settle_until:
            self.set_state(row, FAILED, "whether it took effect is not known: the monitor was removed from the configuration")

    def set_state(self, row: Any, state: str, detail: str, **values: Any) -> bool:
        """Commit a rollback's new state, with its audit row and its message, unless another has moved it on since."""
        now = self._clock.now()
        with self._store.write() as connection:
            if not incidents.move_rollback(connection, row, state=state, detail=detail, **values):
                return False
            outbox.give_up_rollback(connection, row.incident_id)
            audit(connection, now, "driftd", f"rollback.{state}", {"rollback": row.id, "incident": row.incident_id, "detail": detail})
            self._announce(connection, row.incident_id, f"rollback {state.replace('_', ' ')}")
        return True

    def _dispatch(self, row: Row[Any]) -> None:
        with self._store.write() as connection:
            one_at_a_time(connection, DISPATCH)  # the limits of a model and of the fleet count what others have just sent
            rollback = incidents.rollback_of(connection, row.incident_id)
            assert rollback is not None
            now, monitor = self._clock.now(), self._monitors().get(rollback.monitor)
            late = rollback.not_after is not None and now > rollback.not_after
            why = "the monitor is gone" if monitor is None else "" if late else self._recheck(connection, rollback)
            if late or why or rollback.state != REQUESTED:
                state = EXPIRED if late else CANCELLED
                outbox.record(connection, row, now, state=outbox.CANCELLED, outcome=state, detail=why or "too late")
                if rollback.state == REQUESTED and incidents.move_rollback(connection, rollback, state=state, detail=why or "too late to be sent"):
                    audit(connection, now, "driftd", f"rollback.{state}", {"rollback": rollback.id, "detail": why or "too late"})
                    self._announce(connection, row.incident_id, f"rollback {state}")
                return
            # The intent is committed before a byte leaves: a crash from here on is "unknown", never a second request.
            if not incidents.move_rollback(connection, rollback, state=DISPATCHED, dispatched_at=now, posts=rollback.posts + 1):
                return
            audit(connection, now, "driftd", "rollback.dispatched", {"rollback": rollback.id, "incident": row.incident_id, "post": rollback.posts + 1})
        assert monitor is not None
        settle = now + monitor.rollback.settle
        if self._too_late(now, rollback.not_after):
            self._finish(row, EXPIRED, STOPPED)
            self.set_state(_sent(rollback), EXPIRED, STOPPED, posts=rollback.posts, dispatched_at=None)
            return
        try:
            status = self._post(monitor.rollback, rollback, now)
        except DeliveryError as error:
            if not error.sent and error.retryable:
                self._later(row, rollback, str(error), now)
                return
            state = UNKNOWN if error.sent else FAILED
            self._finish(row, state, str(error))
            self.set_state(_sent(rollback), state, str(error), settle_until=settle)
            return
        state, detail = outcome_of(status)
        self._finish(row, state, detail)
        self.set_state(_sent(rollback), state, detail, settle_until=self._clock.now() + monitor.rollback.settle)

    def _later(self, row: Row[Any], rollback: Row[Any], why: str, now: datetime) -> None:
        """No byte has left: it may be tried again, until it is too late."""
        with self._store.write() as connection:
            wait = now + delay(row.key, row.attempts + 1)
            outbox.record(connection, row, now, state=outbox.PENDING, outcome="retry", detail=why, next_at=wait)
            incidents.move_rollback(connection, _sent(rollback), state=REQUESTED, detail=why, posts=rollback.posts, dispatched_at=None)

    def _finish(self, row: Row[Any], state: str, detail: str) -> None:
        with self._store.write() as connection:
            final = outbox.UNKNOWN if state == UNKNOWN else outbox.SENT if state in (ACCEPTED, SUPERSEDED) else outbox.DEAD
            outbox.record(connection, row, self._clock.now(), state=final, outcome=state, detail=detail)

    def _too_late(self, decided: datetime, not_after: datetime | None) -> bool:
        """Whether this process was stopped after it had committed that it sends: by now another may look after it."""
        now = self._clock.now()
        return now - decided > STALE or (not_after is not None and now > not_after)

    def _post(self, config: RollbackConfig, rollback: Row[Any], now: datetime) -> int:
        LOG.info("rollback request", monitor=rollback.monitor, to_version=rollback.to_version, url=shown(config.url or ""))
        return post(config, rollback.payload, rollback.webhook_id, now).status

    def _probe(self, row: Row[Any]) -> None:
        """Ask ``status_url`` which version is live, until the settling time is over."""
        config = self._monitors()[row.monitor].rollback
        now = self._clock.now()
        over = row.settle_until is not None and now >= row.settle_until
        patience = row.settle_until is not None and now >= row.settle_until + 2 * config.settle
        if config.status_url is None:
            if row.state == ACCEPTED:
                self.set_state(row, CONFIRMED, "accepted; there is no status_url to ask: the prediction log will tell", confirmed_at=now)
            return  # of an unknown one, too, the prediction log tells, with the next look
        version, busy = live(config, row.payload, row.webhook_id)
        if version == row.to_version:
            self.set_state(row, CONFIRMED, f"{version} is live", confirmed_at=now)
        elif over and not busy:
            self.over(row, version, "status_url")
        elif patience:
            self.set_state(row, FAILED, f"status_url says that a change is in progress, and has said so for long; {version or 'an unknown version'} is live")

    def over(self, row: Row[Any], version: str | None, source: str) -> None:
        """The settling time is over and the change was not seen: repeat once where nothing happened, else stop and page."""
        config = self._monitors()[row.monitor].rollback
        if row.state == UNKNOWN and version == row.from_version and row.posts < MOST_POSTS:
            self._repeat(row, config)
        elif version is None:
            self.set_state(row, FAILED, f"whether it took effect is not known: {source} does not say; look at it, nothing is sent again")
        else:
            self.set_state(row, FAILED, f"after the settling time {source} says that {version} is live; nothing is sent again")

    def _repeat(self, row: Row[Any], config: RollbackConfig) -> None:
        """One repeat with the same id, after a probe has shown that the first request had no effect."""
        with self._store.write() as connection:
            one_at_a_time(connection, DISPATCH)
            now = self._clock.now()
            late = row.not_after is not None and now > row.not_after
            why = "it is too late" if late else self._recheck(connection, row)
            settle = now + config.settle
            if not why and not incidents.move_rollback(connection, row, posts=row.posts + 1, dispatched_at=now, settle_until=settle):
                return
        if why:
            self.set_state(row, FAILED, f"it had no effect, and is not repeated: {why}")
            return
        try:
            if self._too_late(now, row.not_after):
                return  # as if its reply were lost: the next look asks which version is live
            status = self._post(config, row, now)
        except DeliveryError as error:
            LOG.warning("rollback repeat", monitor=row.monitor, reason=str(error))
            return
        state, detail = outcome_of(status)
        repeated = SimpleNamespace(**{**row._mapping, "posts": row.posts + 1})
        self.set_state(repeated, state, f"repeated; {detail}", settle_until=self._clock.now() + config.settle)


def _sent(rollback: Row[Any]) -> Any:
    """The rollback as it is once its request is under way: what comes of it counts only while nobody else has moved it on."""
    return SimpleNamespace(**{**rollback._mapping, "state": DISPATCHED, "posts": rollback.posts + 1})


def outcome_of(status: int) -> tuple[str, str]:
    """What a reply says of a rollback, and in words."""
    if 200 <= status < 300:
        return ACCEPTED, f"the endpoint answered {status}"
    if status == 409:
        return SUPERSEDED, "the endpoint says that another version is live (409)"
    if status >= 500 or status == 408:
        return UNKNOWN, f"the endpoint answered {status}"
    return FAILED, f"the endpoint refused with {status}"
