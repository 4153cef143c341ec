"""The outbox worker: claim with a lease, send, record. At least once, in order per incident and destination."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Row

from checks.core.errors import DeliveryError
from checks.core.window import iso
from monitor.clock import Clock
from monitor.delivery.retry import GIVE_UP, delay
from monitor.ports import Message, Sender
from monitor.store import outbox
from monitor.store.store import Store

LEASE = timedelta(seconds=60)
LOG = structlog.get_logger("driftd.delivery")


class OutboxWorker:
    """Delivers what is due.

    Parameters
    ----------
    senders : the channels by name.
    owner : who holds the lease: this process.
    """

    def __init__(self, store: Store, senders: Callable[[], Mapping[str, Sender]], clock: Clock, owner: str) -> None:
        self._store = store
        self._senders = senders
        self._clock = clock
        self._owner = owner
        self._stopping = False

    def stop(self) -> None:
        """Start nothing new; what was claimed and not begun is released."""
        self._stopping = True

    def deliver_due(self) -> int:
        """Send every due message once; destinations in parallel, each in order. Answers how many were sent."""
        sent = 0
        while not self._stopping:
            with self._store.read() as connection:
                due = outbox.next_due(connection)
                leased = outbox.counts(connection).get(outbox.LEASED, 0)
            if (due is None or due > self._clock.now()) and not leased:
                break
            with self._store.write() as connection:
                claimed = outbox.claim(connection, self._owner, self._clock.now(), LEASE, ("alert",))
            if not claimed:
                break
            groups: dict[str, list[Row[Any]]] = defaultdict(list)
            for row in claimed:
                groups[row.destination].append(row)
            if len(groups) == 1:
                sent += sum(self._one(row) for row in claimed)
            else:
                with ThreadPoolExecutor(len(groups), thread_name_prefix="driftd-deliver") as pool:
                    sent += sum(pool.map(lambda rows: sum(self._one(row) for row in rows), groups.values()))
        return sent

    def _one(self, row: Row[Any]) -> int:
        if self._stopping:
            with self._store.write() as connection:
                outbox.release(connection, row)
            return 0
        now = self._clock.now()
        sender = self._senders().get(row.destination)
        try:
            if sender is None:
                raise DeliveryError(f"there is no channel {row.destination!r} any more", retryable=False)
            receipt = sender.send(Message(row.key, dict(row.payload), row.text, row.sequence, now))
        except DeliveryError as error:
            self._failed(row, error)
            return 0
        except Exception as error:  # the edge of a delivery: a broken channel must not stop the others
            self._failed(row, DeliveryError(f"{type(error).__name__}: {error}", retryable=True, sent=True))
            return 0
        with self._store.write() as connection:
            outbox.record(connection, row, now, state=outbox.SENT, outcome="sent", detail=receipt)
        return 1

    def _failed(self, row: Row[Any], error: DeliveryError) -> None:
        now = self._clock.now()
        again = error.retryable and now - row.created_at < GIVE_UP
        wait = timedelta(seconds=error.retry_after) if error.retry_after else delay(row.key, row.attempts + 1)
        with self._store.write() as connection:
            outbox.record(
                connection, row, now, state=outbox.PENDING if again else outbox.DEAD,
                outcome="retry" if again else "dead", detail=str(error), next_at=now + wait if again else None,
            )
        LOG.warning(
            "message not delivered", destination=row.destination, incident=f"INC-{row.incident_id}", reason=str(error),
            next=iso(now + wait) if again else "never: it is a dead letter",
        )
