"""The outbox worker: claim with a lease, send, record. At least once, in order per incident and destination."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from datetime import datetime, timedelta
from typing import Any

import structlog

from checks.core.errors import DeliveryError, StoreError
from checks.core.window import iso
from monitor.alerting.coalesce import Waiting, coalesced
from monitor.clock import Clock
from monitor.delivery.retry import GIVE_UP, delay
from monitor.ports import Message, Sender
from monitor.store import destinations, outbox
from monitor.store.store import Store

LEASE = timedelta(seconds=60)
"""More than twice the time-out of a request; nothing is begun after half of it."""

KINDS = ("alert", "action")
AT_ONCE = 20
MOST_THREADS = 64
"""A destination that hangs keeps its thread for 15 s; there must be enough for the others."""

MOST_TRIES = 30
"""As many as the waits of `retry` make in 24 hours."""

LAST_SECOND = 1.0

GAP = timedelta(hours=2)
"""Hours without a try, as when driftd was not running: a destination's failure is counted anew."""

BREAK_AFTER = 3
"""Failures in a row after which a destination is left alone for a while."""

LOG = structlog.get_logger("driftd.delivery")
DeadLetter = Callable[[Any, str], None]
"""Tells the owner, by another channel, that a message did not get through: the message and why."""


class OutboxWorker:
    """Delivers what is due, every destination in a thread of its own, so that a dead one holds no other up.

    Parameters
    ----------
    senders : the channels by name.
    owner : who holds the lease: this process.
    dead_letter : is called in no transaction when a message is given up.
    """

    def __init__(
        self, store: Store, senders: Callable[[], Mapping[str, Sender]], clock: Clock, owner: str, dead_letter: DeadLetter | None = None,
    ) -> None:
        self._store = store
        self._senders = senders
        self._clock = clock
        self._owner = owner
        self._dead_letter = dead_letter
        self._stopping = False
        self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="driftd-deliver")
        self._running: dict[str, Future[int]] = {}
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Begin nothing new; what was claimed and not begun is released."""
        self._stopping = True

    def close(self) -> None:
        """Give back what is still claimed: it will be sent after the next start. What is just being sent may end within a second."""
        self._stopping = True
        wait_for(list(self._running.values()), timeout=LAST_SECOND)
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._store.write() as connection:
            outbox.release_all(connection, self._owner)

    def deliver_due(self, *, wait: bool = True) -> int:
        """Send what is due. ``wait`` until it is sent, and answer how many were; else (0) leave that to the threads."""
        sent = 0
        while not self._stopping:
            begun = self._begin()
            if not wait or not begun:
                break
            wait_for(begun)
            done = sum(future.result() for future in begun)
            sent += done
            if not done:  # what is due waits behind something that is not
                break
        return sent

    def _begin(self) -> list[Future[int]]:
        now = self._clock.now()
        with self._store.read() as connection:
            due = outbox.due_destinations(connection, now, KINDS)
            shut = destinations.shut(connection, now) if due else frozenset()
            off = [r for r in destinations.all_of(connection) if r.disabled_at is not None and r.name in due] if shut else []
        for each in off:
            self._switched_off(each.name, each.reason)
        begun = []
        with self._lock:
            self._running = {name: future for name, future in self._running.items() if not future.done()}
            for name in due:
                if name not in shut and name not in self._running:
                    self._running[name] = self._pool.submit(self._drain, name)
                    begun.append(self._running[name])
        return begun

    def _switched_off(self, name: str, why: str) -> None:
        """What is due to a channel that is switched off is dead at once, and its owner hears so by another."""
        with self._store.write() as connection:
            dead = outbox.give_up(connection, name, self._clock.now(), f"the channel is switched off: {why}")
        if dead and self._dead_letter is not None:
            for row in dead[-1:]:
                self._dead_letter(row, f"the channel is switched off: {why}")

    def _drain(self, name: str) -> int:
        """Send what is due to one destination until nothing is, or it fails; answers how many were sent."""
        sent = 0
        try:
            while not self._stopping:
                begun = self._clock.now()
                claimed = self._claim(name)
                if not claimed:
                    break
                for index, rows in enumerate(claimed):
                    if self._stopping or self._clock.now() - begun > LEASE / 2:
                        self._release(claimed[index:])
                        break
                    if not self._one(rows):
                        self._release(claimed[index + 1 :])
                        return sent
                    sent += 1
        except StoreError as error:  # the lease runs out, and what was sent is sent again
            LOG.error("not delivered", destination=name, reason=str(error))
        except Exception as error:  # the edge of a delivery's thread, whose outcome nobody waits for
            LOG.error("not delivered", destination=name, reason=f"{type(error).__name__}: {error}")
        return sent

    def _claim(self, name: str) -> list[list[Any]]:
        people = bool(getattr(self._senders().get(name), "people", False))
        now = self._clock.now()
        lost: list[Any] = []
        with self._store.write() as connection:
            if name in destinations.shut(connection, now):
                return []
            if name.startswith("action:"):
                lost = outbox.lost_actions(connection, now)
            # Of actions one at a time: what was claimed and may have been sent when its sender was killed is not sent again.
            heads = outbox.claim(connection, self._owner, now, LEASE, KINDS, 1 if name.startswith("action:") else AT_ONCE, name)
            claimed = [
                [row, *(outbox.claim_rest(connection, row, self._owner, now, now + LEASE) if people and row.incident_id is not None else [])]
                for row in heads
            ]
        for row in lost:
            LOG.warning("action not known to be done", destination=row.destination, incident=f"INC-{row.incident_id}")
            if self._dead_letter is not None:
                self._dead_letter(row, "driftd stopped while it was sent: whether it was done is not known, and it is not asked for again")
        return claimed

    def _release(self, claimed: list[list[Any]]) -> None:
        if claimed:
            with self._store.write() as connection:
                for rows in claimed:
                    for row in rows:
                        outbox.release(connection, row)

    def _one(self, rows: list[Any]) -> bool:
        """Send one message, which stands for all of ``rows``; False when the destination is better left alone now."""
        head, now = rows[0], self._clock.now()
        sender = self._senders().get(head.destination)
        try:
            if sender is None:
                raise DeliveryError(f"there is no channel {head.destination!r} any more", retryable=False)
            thread = self._thread(head) if getattr(sender, "threads", False) else ""
            payload, text = coalesced([Waiting(r.sequence, r.created_at, r.payload, r.text) for r in rows])
            receipt = sender.send(Message(head.key, payload, text, rows[-1].sequence, now, thread))
        except DeliveryError as error:
            return self._failed(rows, error)
        except StoreError:
            raise
        except Exception as error:  # the edge of a delivery: a broken channel must not stop the others
            return self._failed(rows, DeliveryError(f"{type(error).__name__}: {error}", retryable=True, sent=True))
        with self._store.write() as connection:
            for row in rows:
                outbox.record(
                    connection, row, now, state=outbox.SENT, outcome="sent", detail=receipt if row is head else f"told with {head.key}",
                    covered_by="" if row is head else head.key,
                )
            if not thread and head.incident_id is not None and getattr(sender, "threads", False):
                destinations.save_thread(connection, head.incident_id, head.destination, receipt)
            destinations.works(connection, head.destination)
        return True

    def _thread(self, head: Any) -> str:
        with self._store.read() as connection:
            return destinations.thread_of(connection, head.incident_id, head.destination)

    def _failed(self, rows: list[Any], error: DeliveryError) -> bool:
        """Record a failure of a message and of its destination."""
        head, now = rows[0], self._clock.now()
        once = head.kind == "action" and error.sent  # its effect may have come about: it is not asked for twice
        with self._store.read() as connection:
            known = destinations.of(connection, head.destination)
        since = _failing_since(known, now)
        old = now - head.created_at >= GIVE_UP
        again = error.retryable and not once and not (old and (head.attempts + 1 >= MOST_TRIES or now - since >= GIVE_UP))
        wait = timedelta(seconds=error.retry_after) if error.retry_after else delay(head.key, head.attempts + 1)
        state = outbox.PENDING if again else outbox.UNKNOWN if once else outbox.DEAD
        given_up = 0
        with self._store.write() as connection:
            outbox.record(
                connection, head, now, state=state, outcome="retry" if again else state, detail=str(error), next_at=now + wait if again else None,
            )
            for row in rows[1:]:  # what came after it is told on its own, if the head is dead
                outbox.release(connection, row)
            failures = (known.failures if known is not None else 0) + 1
            if error.disable and head.kind != "action":
                destinations.save(connection, head.destination, failures=failures, disabled_at=now, reason=str(error))
            elif error.retryable:
                pause = timedelta(seconds=error.retry_after) if error.retry_after else delay(head.destination, failures)
                shut = error.retry_after is not None or failures >= BREAK_AFTER
                destinations.save(
                    connection, head.destination, failures=failures, open_until=now + pause if shut else None, failing_since=since, reason=str(error),
                )
                if now - since >= GIVE_UP:
                    given_up = len(outbox.give_up(connection, head.destination, now - GIVE_UP, str(error)))
        LOG.warning(
            "message not delivered", destination=head.destination, incident=f"INC-{head.incident_id}", reason=str(error),
            next=iso(now + wait) if again else "never: it is a dead letter", given_up=1 + given_up if not again else 0,
        )
        if not again and self._dead_letter is not None:
            self._dead_letter(head, str(error))
        return not ((error.disable and head.kind != "action") or error.retryable)


def _failing_since(known: Any, now: datetime) -> datetime:
    """Since when nothing has arrived at a destination that was asked all the while."""
    if known is None or not known.failures or known.failing_since is None:
        return now
    resting = known.open_until or known.failing_since
    return now if now - resting > GAP and known.open_until is not None else known.failing_since
