"""What is due because time has passed and not because a window came: reminders, escalation, ends of silences, quiet sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from checks.core.errors import DriftdError
from checks.core.window import Window, iso
from monitor import posting, undelivered
from monitor.alerting.incidents import FIRED, RESOLVED, UPDATED
from monitor.alerting.reminders import DIGEST, ESCALATE, MOST, REMIND, Announced, digest_text, remind
from monitor.alerting.silences import Silence
from monitor.announce import UNWATCHED, Announcer, Committed
from monitor.clock import Clock
from monitor.config.alerts import Escalation
from monitor.pipeline import Pipeline
from monitor.posting import let_go, owner_of, quiet_for
from monitor.prepare import Prepared
from monitor.shared import Sources
from monitor.store import incidents, outbox, runs, silences
from monitor.store.store import Store, audit, leased, one_at_a_time

LOG = structlog.get_logger("driftd.upkeep")
REMINDER = "incident.reminder"
FORGOTTEN = timedelta(minutes=30)


class Upkeep:
    """Keeps open incidents in people's minds, and lets go what waited. Any number of daemons may do so beside each other."""

    def __init__(self, store: Store, pipeline: Pipeline, clock: Clock, senders: Callable[[], Any]) -> None:
        self._store, self._pipeline, self._clock, self._senders = store, pipeline, clock, senders

    def tick(self) -> None:
        """Do what is due; what goes wrong with one incident keeps none of the others."""
        now = self._clock.now()
        with self._store.read() as connection:
            everything = incidents.listing(connection, "open")
            speaking = {r.id for r in everything}
            opened = [r for r in everything if r.parent_id not in speaking]
            spoken_for = {r.parent_id for r in everything}
            quiet = silences.current(connection, now)
            said = {r.id: incidents.last_said(connection, r.id) for r in opened}
            over = silences.over(connection, now)
            forgotten = [n for n in outbox.held_since(connection, now - FORGOTTEN) if not leased(connection, f"monitor/{n.partition(':')[2]}", now)]
            leftover = outbox.held_by_ended(connection)
            expired = [r for r in incidents.rollbacks(connection, None, ("awaiting_approval",)) if r.expires_at is not None and r.expires_at <= now]
        for silence in over:
            self._guarded(self._unsilence, silence, now)
        for name in leftover:
            self._guarded(self._forgotten, name, now)
        for name in forgotten:  # a daemon was killed while it caught up, and nobody has looked at the monitor since
            self._guarded(self._forgotten, name, now)
        for row in everything:
            if row.scope == "monitor" and row.monitor not in self._pipeline.config.monitors:
                self._guarded(self._removed, row, now)
        for rollback in expired:
            self._guarded(self._expire, rollback, now)
        digests: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in opened:
            if row.scope == "source":
                self._guarded(self._settle, row, now)
                if row.id not in spoken_for:  # its monitors are well, and it only waits to be sure: nothing is to be repeated
                    continue
            elif row.scope == undelivered.CHANNEL:
                self._guarded(self._mended, row, now)
            if quiet_for(quiet, row, now) is not None:
                continue
            due = remind(self._facts(row, said[row.id]), now)
            if DIGEST in due:
                digests[row.owner].append(row)
            elif due:
                self._guarded(self._remind, row, now)
        for owner in digests:
            mine = [
                r for r in opened if r.owner == owner and r.reminders >= MOST and not r.acked_by and not r.flapping
                and quiet_for(quiet, r, now) is None
            ]
            self._guarded(self._digest, mine, now)

    @staticmethod
    def _guarded(body: Callable[[Any, datetime], None], item: Any, now: datetime) -> None:
        try:
            body(item, now)
        except (DriftdError, IntegrityError) as error:
            what = item if isinstance(item, str) else getattr(item, "id", "")
            LOG.warning("not kept up", work=body.__name__, item=what, reason=str(error).splitlines()[0])

    def _unsilence(self, silence: Silence, now: datetime) -> None:
        with self._store.write() as connection:
            if silences.end(connection, silence.id, now):
                for row in incidents.listing(connection, "open"):
                    if quiet_for([replace(silence, ends=now + timedelta(seconds=1))], row, now) is not None:
                        heard = bool(outbox.told(connection, row.id))  # what is known is not repeated now, and what is new not escalated at once
                        incidents.update(connection, row.id, reminded_at=now, **({} if heard or row.fail_since is None else {"fail_since": now}))
                let_go(connection, self._pipeline.config, f"silence:{silence.id}", f"while it was silenced ({silence.reason})", now)

    def _forgotten(self, name: str, now: datetime) -> None:
        with self._store.write() as connection:
            kind, _, of = name.partition(":")
            let_go(connection, self._pipeline.config, name, "while it was silenced" if kind == "silence" else f"while {of} was catching up", now)

    def _escalation(self, row: Row[Any]) -> Escalation | None:
        config = self._pipeline.config
        return Sources(config).escalation(row) if row.scope == "source" else owner_of(config, row.owner).escalate

    def _facts(self, row: Row[Any], said: datetime | None) -> Announced:
        escalate = self._escalation(row)
        return Announced(
            row.severity, row.fail_since or row.opened_at, said or row.opened_at, row.reminders, row.reminded_at, bool(row.acked_by), bool(row.flapping),
            row.escalated_at is not None, escalate.after if escalate is not None else None,
        )

    def _remind(self, row: Row[Any], now: datetime) -> None:
        with self._store.write() as connection:
            fresh = incidents.locked(connection, row.id)
            if fresh is None or fresh.state != "open":
                return
            due = remind(self._facts(fresh, incidents.last_said(connection, row.id)), now)
            if ESCALATE in due:
                escalate = self._escalation(fresh)
                assert escalate is not None
                incidents.update(connection, row.id, escalated_at=now)
                audit(connection, now, "driftd", "incident.escalated", {"incident": row.id, "to": escalate.to})
                self._say(connection, fresh, REMINDER, f"not acknowledged for {_words(now - (fresh.fail_since or fresh.opened_at))}: escalated to {', '.join(escalate.to)}", now)
            elif REMIND in due:
                number = fresh.reminders + 1
                incidents.update(connection, row.id, reminders=number, reminded_at=now)
                last = "; from now on only in the daily digest" if number == MOST else ""
                self._say(connection, fresh, REMINDER, f"still open after {_words(now - fresh.opened_at)}, reminder {number} of {MOST}{last}", now)

    def _say(self, connection: Connection, row: Row[Any], kind: str, why: str, now: datetime) -> None:
        if row.scope == "source":
            Sources(self._pipeline.config).announce(connection, row.id, kind, now, why, now)
        else:
            say(connection, self._pipeline, row, kind, why, now)

    def _digest(self, rows: list[Row[Any]], now: datetime) -> None:
        owner = rows[0].owner
        lines = [f"INC-{r.id} [{r.severity}] {r.monitor}: {r.headline} (since {iso(r.first_window)})" for r in rows]
        day = f"{now:%Y-%m-%d}"
        payload = {"type": "incident.digest", "timestamp": iso(now), "data": {"owner": owner, "incidents": [f"INC-{r.id}" for r in rows], "headline": f"{len(rows)} incidents are still open", "lines": lines}}
        severity = "fail" if any(r.severity == "fail" for r in rows) else "warn"
        with self._store.write() as connection:
            one_at_a_time(connection, f"digest/{owner}")
            said = [outbox.notice(connection, f"digest/{owner}/{day}", c, payload, digest_text(lines, day), now) for c in owner_of(self._pipeline.config, owner).route(severity)]
            for row in rows if any(said) else []:
                incidents.update(connection, row.id, reminded_at=now)

    def _settle(self, row: Row[Any], now: datetime) -> None:
        sizes = [p.settings.size_seconds for m in row.members if (p := self._pipeline.known(m)) is not None]
        size = timedelta(seconds=min(sizes, default=3600.0))
        with self._store.write() as connection:
            fresh = incidents.locked(connection, row.id)
            if fresh is not None and fresh.state == "open":
                for child in Sources(self._pipeline.config).settle(connection, fresh, now, size) or []:
                    say(connection, self._pipeline, incidents.get(connection, child.id), UPDATED, f"goes on by itself: INC-{row.id} of the source is over", now)

    def _mended(self, row: Row[Any], now: datetime) -> None:
        with self._store.write() as connection:
            fresh = incidents.locked(connection, row.id)
            if fresh is not None and fresh.state == "open":
                undelivered.mended(connection, self._pipeline.config, fresh, now)

    def _removed(self, row: Row[Any], now: datetime) -> None:
        """Close what is open of a monitor that the configuration does not have any more."""
        with self._store.write() as connection:
            fresh = incidents.locked(connection, row.id)
            if fresh is None or fresh.state != "open":
                return
            let_go(connection, self._pipeline.config, f"catchup:{row.monitor}", f"while {row.monitor} was catching up", now)
            incidents.update(connection, row.id, state="closed", closed_at=now, closed_window=row.last_window, reason="removed")
            known = incidents.rollback_of(connection, row.id)
            if known is not None and known.state in ("requested", "awaiting_approval"):
                incidents.move_rollback(connection, known, state="cancelled", detail="the monitor was removed")
            outbox.cancel_rollback(connection, row.id, "the monitor was removed")
            if not incidents.spoken_for(connection, fresh):
                posting.say_plainly(connection, self._pipeline.config, incidents.get(connection, row.id), RESOLVED, "the monitor was removed from the configuration", now)

    def _expire(self, rollback: Row[Any], now: datetime) -> None:
        """An approval that nobody gave in time is void; the next window proposes anew, with fresh guards."""
        with self._store.write() as connection:
            detail = "nobody approved it in time; it is proposed again if the next window still calls for it"
            if incidents.move_rollback(connection, rollback, state="expired", detail=detail):
                audit(connection, now, "driftd", "rollback.expired", {"rollback": rollback.id, "incident": rollback.incident_id})
                row = incidents.get(connection, rollback.incident_id)
                if row.state == "open":
                    self._say(connection, row, UPDATED, "rollback expired", now)

    def unwatched(self, name: str, reason: str) -> None:
        """A monitor could not be looked at, several times in a row, so that no window of it can say so: the platform hears of it once."""
        now, config = self._clock.now(), self._pipeline.config
        with self._store.write() as connection:
            one_at_a_time(connection, f"unwatched/{name}")
            if self._of_unwatched(connection, name) or name not in config.monitors:
                return
            number = incidents.create(
                connection, monitor=name, family="service", severity="fail", state="open", owner="platform", opened_at=now, reason="",
                headline=f"it cannot be watched: {reason}"[:1000], first_window=now, last_window=now, windows=1, members=[UNWATCHED],
                facts={"members": []}, hold_by="", fail_since=now,
            )
            posting.say_plainly(connection, config, incidents.get(connection, number), FIRED, "several tries have failed; driftd tries again by itself", now)
            Sources(config).gather(connection, name, now)

    def watched_again(self, name: str) -> None:
        """A monitor was looked at: what was said of it is over."""
        with self._store.read() as connection:
            if not self._of_unwatched(connection, name):
                return
        now = self._clock.now()
        with self._store.write() as connection:
            for row in self._of_unwatched(connection, name):
                incidents.update(connection, row.id, state="closed", closed_at=now, closed_window=now, reason="resolved")
                if not incidents.spoken_for(connection, row):
                    posting.say_plainly(connection, self._pipeline.config, incidents.get(connection, row.id), RESOLVED, "it is watched again", now)

    @staticmethod
    def _of_unwatched(connection: Connection, name: str) -> list[Row[Any]]:
        return [r for r in incidents.open_of(connection, [name]) if r.members == [UNWATCHED]]

    def dead_letter(self, message: Any, why: str) -> None:
        """What an outbox worker calls when a message is given up."""
        with self._store.write() as connection:
            undelivered.dead_letter(connection, self._pipeline.config, message, why, self._clock.now())


def say(connection: Connection, pipeline: Pipeline, row: Row[Any], kind: str, why: str, now: datetime) -> None:
    """Announce something of a monitor's incident that no window brought; in few words where the monitor's settings are not known, as
    after a change while its source is away."""
    prepared = pipeline.known(row.monitor)
    if prepared is None:
        posting.say_plainly(connection, pipeline.config, row, kind, why, now)
        return
    Announcer(pipeline.config, prepared).announce(connection, row.id, kind, Committed(_window(connection, prepared, row), now, True), why)


def _window(connection: Connection, prepared: Prepared, row: Row[Any]) -> Window:
    run = runs.current_run(connection, row.monitor, row.last_window)
    return Window(run.start, run.end) if run is not None else prepared.grid.at(row.last_window)


def _words(length: timedelta) -> str:
    minutes = length.total_seconds() / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} days"
