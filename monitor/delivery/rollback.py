"""Calling the rollback webhook: at most one effect, probed and verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row

from checks.core.errors import DeliveryError
from monitor.clock import Clock
from monitor.config.model import MonitorConfig, RollbackConfig
from monitor.config.types import reveal
from monitor.delivery.channels.webhook import signed_headers
from monitor.delivery.http import request, shown
from monitor.delivery.retry import delay
from monitor.ports import Message
from monitor.store import incidents, outbox
from monitor.store.store import Store, audit

LEASE = timedelta(seconds=60)
LOG = structlog.get_logger("driftd.rollback")
ACCEPTED, UNKNOWN, CONFIRMED, FAILED, SUPERSEDED, EXPIRED = (
    "accepted", "unknown", "confirmed", "failed", "superseded", "expired",
)

Announce = Callable[[Connection, int, str], None]
"""Tells the people of an incident, in the same transaction, that its rollback changed state."""

Recheck = Callable[[Connection, Row[Any]], str]
"""Why a decided rollback must not be sent any more, or empty."""


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

    def run(self) -> None:
        """Dispatch what is due, then probe what is under way."""
        with self._store.read() as connection:
            rows = incidents.rollbacks(connection)
        if any(row.state == "requested" for row in rows):
            with self._store.write() as connection:
                claimed = outbox.claim(connection, self._owner, self._clock.now(), LEASE, ("rollback",))
            for row in claimed:
                self._dispatch(row)
        for row in rows:
            if row.state in (ACCEPTED, UNKNOWN) and row.monitor in self._monitors():
                self._probe(row)
            elif row.state == "dispatched" and row.dispatched_at and self._clock.now() - row.dispatched_at > LEASE:
                monitor = self._monitors().get(row.monitor)
                settle = self._clock.now() + (monitor.rollback.settle if monitor else LEASE)
                self.set_state(row, UNKNOWN, "driftd stopped after it had sent the request", settle_until=settle)

    def set_state(self, row: Row[Any], state: str, detail: str, **values: Any) -> None:
        """Commit a rollback's new state, with its audit row and its message, unless another has moved it on since."""
        now = self._clock.now()
        with self._store.write() as connection:
            if not incidents.move_rollback(connection, row, state=state, detail=detail, **values):
                return
            outbox.give_up_rollback(connection, row.incident_id)
            audit(connection, now, "driftd", f"rollback.{state}", {"rollback": row.id, "incident": row.incident_id, "detail": detail})
            self._announce(connection, row.incident_id, f"rollback {state}")

    def _read(self, incident: int) -> Row[Any]:
        with self._store.read() as connection:
            row = incidents.rollback_of(connection, incident)
        assert row is not None
        return row

    def _dispatch(self, row: Row[Any]) -> None:
        now = self._clock.now()
        rollback = self._read(row.incident_id)
        monitor = self._monitors().get(rollback.monitor)
        with self._store.write() as connection:
            why = "the monitor is gone" if monitor is None else self._recheck(connection, rollback)
            late = rollback.not_after is not None and now > rollback.not_after
            if late or why or rollback.state != "requested":
                state = EXPIRED if late else "cancelled"
                outbox.record(connection, row, now, state=outbox.CANCELLED, outcome=state, detail=why or "too late")
                if rollback.state == "requested":
                    incidents.save_rollback(connection, rollback.id, state=state, detail=why or "too late to be sent")
                    audit(connection, now, "driftd", f"rollback.{state}", {"rollback": rollback.id, "detail": why or "too late"})
                    self._announce(connection, row.incident_id, f"rollback {state}")
                return
            # The intent is committed before a byte leaves: a crash from here on is "unknown", never a second request.
            if not incidents.move_rollback(connection, rollback, state="dispatched", dispatched_at=now, posts=rollback.posts + 1):
                return
        assert monitor is not None
        settle = now + monitor.rollback.settle
        try:
            status = self._post(monitor.rollback, rollback, now)
        except DeliveryError as error:
            if not error.sent and error.retryable:
                wait = now + delay(row.key, row.attempts + 1)
                with self._store.write() as connection:
                    outbox.record(connection, row, now, state=outbox.PENDING, outcome="retry", detail=str(error), next_at=wait)
                    incidents.save_rollback(connection, rollback.id, state="requested", detail=str(error), posts=rollback.posts)
                return
            self._finish(row, UNKNOWN if error.sent else FAILED, str(error))
            state = UNKNOWN if error.sent else FAILED
            self.set_state(self._read(row.incident_id), state, str(error), settle_until=settle)
            return
        if 200 <= status < 300:
            state, detail = ACCEPTED, f"the endpoint answered {status}"
        elif status == 409:
            state, detail = SUPERSEDED, "the endpoint says that another version is live (409)"
        elif status >= 500:
            state, detail = UNKNOWN, f"the endpoint answered {status}"
        else:
            state, detail = FAILED, f"the endpoint refused with {status}"
        self._finish(row, state, detail)
        self.set_state(self._read(row.incident_id), state, detail, settle_until=settle)

    def _finish(self, row: Row[Any], state: str, detail: str) -> None:
        with self._store.write() as connection:
            final = outbox.UNKNOWN if state == UNKNOWN else outbox.SENT if state in (ACCEPTED, SUPERSEDED) else outbox.DEAD
            outbox.record(connection, row, self._clock.now(), state=final, outcome=state, detail=detail)

    def _post(self, config: RollbackConfig, rollback: Row[Any], now: datetime) -> int:
        body = json.dumps(rollback.payload, separators=(",", ":")).encode()
        message = Message(rollback.webhook_id, dict(rollback.payload), "", 0, now)
        headers = signed_headers(rollback.webhook_id, body, message, reveal(config.secret))
        url = config.url or ""
        LOG.info("rollback request", monitor=rollback.monitor, to_version=rollback.to_version, url=shown(url))
        return request("POST", url, allow_hosts=config.allow_hosts, body=body, headers=headers).status

    def _probe(self, row: Row[Any]) -> None:
        """Ask ``status_url`` which version is live, until the settling time is over."""
        config = self._monitors()[row.monitor].rollback
        now = self._clock.now()
        over = row.settle_until is not None and now >= row.settle_until
        live, busy = self._live(config)
        if live == row.to_version:
            self.set_state(row, CONFIRMED, f"{live} is live", confirmed_at=now)
        elif live is None and config.status_url is None:
            if row.state == ACCEPTED:
                self.set_state(row, CONFIRMED, "accepted; there is no status_url to ask", confirmed_at=now)
            elif over:
                self.set_state(row, FAILED, "whether it took effect is not known and cannot be asked: look at it")
        elif over and row.state == UNKNOWN and live == row.from_version and not busy and row.posts < 2:
            self._repeat(row, config, now)
        elif over and not busy:
            self.set_state(row, FAILED, f"the live version is {live or 'not known'} after the settling time")

    def _repeat(self, row: Row[Any], config: RollbackConfig, now: datetime) -> None:
        """One repeat with the same id, after a probe has shown that the first request had no effect."""
        with self._store.write() as connection:
            if not incidents.move_rollback(connection, row, posts=row.posts + 1, dispatched_at=now, settle_until=now + config.settle):
                return
        try:
            status = self._post(config, row, now)
        except DeliveryError as error:
            LOG.warning("rollback repeat", monitor=row.monitor, reason=str(error))
            return
        if 200 <= status < 300:
            self.set_state(self._read(row.incident_id), ACCEPTED, f"repeated; the endpoint answered {status}")

    @staticmethod
    def _live(config: RollbackConfig) -> tuple[str | None, bool]:
        if config.status_url is None:
            return None, False
        try:
            reply = request("GET", config.status_url, allow_hosts=config.allow_hosts)
            data = json.loads(reply.body)
            return str(data["version"]), bool(data.get("in_progress", False))
        except (DeliveryError, ValueError, KeyError, TypeError):
            return None, False
