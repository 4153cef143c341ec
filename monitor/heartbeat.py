"""Health means progress: ticks go on, messages leave, the store takes writes, the disk has room. The dead man's switch and systemd hear of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from checks.core.errors import DeliveryError, StoreError
from monitor.clock import Clock
from monitor.config.types import reveal
from monitor.daemon import Watch
from monitor.delivery.http import request, shown
from monitor.proposals import kill_switch
from monitor.store import destinations, outbox, silences

LOG = structlog.get_logger("driftd.heartbeat")
STALE = timedelta(minutes=15)
STUCK = timedelta(minutes=15)
LEAST_FREE_MB = 100
TICKS = ("deliver", "evaluate_tick", "keep_up")


def health(watch: Watch) -> tuple[bool, dict[str, Any]]:
    """Whether driftd makes progress, and what that rests on; the reasons against it under ``not_well``."""
    now = watch.clock.now()
    wrong: list[str] = []
    facts: dict[str, Any] = {"problems": dict(watch.problems)}
    try:
        with watch.store.read() as connection:
            oldest = outbox.oldest_pending(connection)
            shut = [f"{r.name}: {r.reason}" for r in destinations.all_of(connection) if r.disabled_at or r.failures]
            stuck = outbox.stuck(connection, now - STUCK)
            dead = outbox.counts(connection).get(outbox.DEAD, 0)
            stopped = kill_switch(watch.config, connection)
            quiet = len(silences.current(connection, now))
    except StoreError as error:
        return False, {**facts, "store": str(error), "not_well": [str(error)]}
    facts["oldest_pending_seconds"] = (now - oldest).total_seconds() if oldest else 0.0
    facts["delivery_rounds"] = watch.rounds
    facts["channels_down"], facts["dead_letters"] = shut, dead
    facts["rollbacks_stopped"], facts["silences"] = stopped or None, quiet
    if stuck:
        wrong.append(f"{stuck} messages wait for longer than 15 minutes though their channels work")
    for name in TICKS:
        ticked = watch.progress.get(name)
        facts[f"last_{name}_seconds" if name != "deliver" else "last_tick_seconds"] = (now - ticked).total_seconds() if ticked else None
        if ticked is None or now - ticked >= STALE or now - ticked < -STALE:
            wrong.append(f"the tick {name} has not ended " + (f"for {(now - ticked).total_seconds():.0f} s" if ticked else "yet"))
    written = watch.progress.get("write")
    facts["last_write_seconds"] = (now - written).total_seconds() if written else None
    if now - (written or watch.begun) >= STALE:
        wrong.append("the store takes no writes")
    for name in watch.stuck(watch.config.workers.time + STALE):
        wrong.append(f"monitor {name} has been looked at for longer than a scan may take, and no window has come to an end")
    free = _free_mb(watch)
    facts["disk_free_mb"] = free
    if free is not None and free < LEAST_FREE_MB:
        wrong.append(f"{free} MB are free on the store's disk; under {LEAST_FREE_MB} MB nothing is sure to be kept")
    facts["not_well"] = wrong
    return not wrong, facts


def _free_mb(watch: Watch) -> int | None:
    """Free megabytes where the store is, or where reports go."""
    url = watch.store.engine.url
    place = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else watch.config.reports.path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free // 1_000_000
    except OSError:
        return None


class Heartbeat:
    """Tells systemd and the dead man's switch that driftd makes progress; of a daemon that only lives they hear nothing."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch, self._clock = watch, clock
        self._pinged: datetime | None = None

    def tick(self) -> None:
        """Write to the store, look at the progress, and say so where it is heard."""
        self._watch.beat()
        well, facts = health(self._watch)
        if not well:
            LOG.warning("no progress", reasons=facts["not_well"])
            return
        notify("WATCHDOG=1")
        dead_man, now = self._watch.config.dead_man, self._clock.now()
        if dead_man is None or (self._pinged is not None and now - self._pinged < dead_man.every):
            return
        self._pinged = now
        url = reveal(dead_man.url) or ""
        try:
            reply = request("GET", url, allow_hosts=dead_man.allow_hosts)
        except DeliveryError as error:
            LOG.warning("dead man's switch not reached", reason=str(error))
            return
        if reply.status >= 300:
            LOG.warning("dead man's switch refused", url=shown(url), status=reply.status)


def notify(state: str) -> None:
    """Tell systemd, where it listens (``NOTIFY_SOCKET``)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "@/":
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
        speaker.connect("\0" + address[1:] if address[0] == "@" else address)
        speaker.send(state.encode())
