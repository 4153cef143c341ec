"""Incidents of a source: when half of its monitors are in trouble at once, one incident names them all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from monitor.alerting import messages
from monitor.alerting.incidents import FIRED, RESOLVED, UPDATED
from monitor.alerting.reminders import EVERY
from monitor.alerting.scopes import GROUP_INTERVAL, QUIET_WINDOWS, SILENT, Trouble, gathered, headline, kind_of, wait
from monitor.alerting.silences import silenced
from monitor.config.groups import source_key, source_label
from monitor.config.model import Config
from monitor.posting import Post, owner_of, send
from monitor.store import incidents, outbox, silences
from monitor.store.store import one_at_a_time


class Sources:
    """Opens, extends and closes the incidents of sources that several monitors share."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def gather(self, connection: Connection, name: str, now: datetime) -> int | None:
        """After something of monitor ``name`` was announced: whether its source is the cause. Answers the source's incident."""
        group = self._config.sharing(name)
        if len(group) < 2:
            return None
        monitor = self._config.monitors[name]
        key = source_key(monitor)
        one_at_a_time(connection, f"source/{key}")
        troubles = [
            Trouble(
                row.id, row.monitor, row.family, kind_of(row.family, row.members, row.last_window), row.severity,
                row.parent_id if incidents.spoken_for(connection, row) else None,
            )
            for row in incidents.open_of(connection, group)
        ]
        known = incidents.open_source(connection, key)
        kinds = gathered(troubles, len(group))
        old = list(known.facts.get("kinds", [])) if known is not None else []
        joining = [t for t in troubles if t.parent is None and t.kind in kinds]
        worse = known is not None and known.severity == "warn" and any(t.severity == "fail" for t in troubles if t.parent == known.id or t in joining)
        if not joining and not worse:
            return None
        if known is None:
            number = self._open(connection, key, source_label(monitor), joining, kinds, len(group), now)
            self.announce(connection, number, FIRED, now, "", now + wait(GROUP_INTERVAL))
            return number
        members = list(dict.fromkeys([*known.members, *(t.monitor for t in joining)]))
        fresh = [k for k in kinds if k not in old and k.partition(" ")[0] not in {o.partition(" ")[0] for o in old}]
        newcomers = sorted({t.monitor for t in joining} - set(known.members))
        inside = [t for t in troubles if t.kind in {*kinds, *old} or t.parent == known.id]
        incidents.update(
            connection, known.id, members=members, facts={**known.facts, "kinds": list(dict.fromkeys([*old, *kinds]))}, last_window=now,
            headline=headline(known.facts["label"], inside, len(group)), severity="fail" if worse else known.severity, windows=len(members),
        )
        self._adopt(connection, known.id, joining)
        if self._renew(connection, int(known.id), now):
            return int(known.id)  # nobody has heard of it yet: the message that waits names these, too
        last = incidents.last_said(connection, known.id) or now
        if worse or newcomers or (fresh and now - last >= EVERY["fail"]):  # else the next message on it names what has joined
            what = ", ".join([*(k.partition(" ")[0] for k in fresh), *newcomers[:5], *([f"{len(newcomers) - 5} more"] if len(newcomers) > 5 else [])])
            at = now if worse else max(now, last + wait(timedelta(hours=1)))
            self.announce(connection, known.id, UPDATED, now, "; ".join(["now fail"] * worse + [f"also {what}"] * bool(what)), at)
        return int(known.id)

    def _open(
        self, connection: Connection, key: str, label: str, joining: list[Trouble], kinds: list[str], monitors: int, now: datetime,
    ) -> int:
        severity = "fail" if any(t.severity == "fail" or t.kind == SILENT for t in joining) else "warn"
        number = incidents.create(
            connection, monitor=f"source {label}"[:200], family=joining[0].family, severity=severity, state="open", owner="platform",
            headline=headline(label, joining, monitors), opened_at=now, reason="", first_window=now, last_window=now, windows=1,
            members=list(dict.fromkeys(t.monitor for t in joining)), facts={"kinds": kinds, "label": label}, hold_by="", scope="source", source=key,
        )
        self._adopt(connection, number, joining)
        return number

    @staticmethod
    def _adopt(connection: Connection, number: int, joining: list[Trouble]) -> None:
        """The source's incident speaks for these from now on; what was not sent yet of them is covered by it."""
        for trouble in joining:
            incidents.update(connection, trouble.incident, parent_id=number)
            outbox.cover_unsent(connection, trouble.incident, f"INC-{number}")

    def _renew(self, connection: Connection, number: int, now: datetime) -> bool:
        """Let the first message, as long as it waits for its siblings, name what has joined since; False when it has left."""
        if not outbox.waits(connection, number):
            return False
        row, facts = self._facts(connection, number, FIRED, now, "")
        body, text = messages.source_payload(facts, 1), messages.source_text(facts, 1)
        at = outbox.renew(connection, number, body, text)
        incidents.reword(connection, number, 1, body)
        quiet = silenced(silences.current(connection, now), row.monitor, row.family, row.id, now)
        for channel in self.channels(row):
            outbox.add_once(
                connection, incident=number, sequence=1, destination=channel, kind="alert", payload=body, text=text, now=now, next_at=at or now,
                held_by=f"silence:{quiet.id}" if quiet is not None else "",
            )
        return True

    def announce(self, connection: Connection, number: int, kind: str, now: datetime, why: str, at: datetime) -> None:
        """Say something of a source's incident: to the platform, and to the owners of its monitors."""
        row, facts = self._facts(connection, number, kind, now, why)
        sequence, body = incidents.append(connection, number, kind, now, lambda n: messages.source_payload(facts, n))
        post = Post(row, kind, sequence, body, messages.source_text(facts, sequence), now)
        heard = [c for c in outbox.told(connection, number) if c in self._config.channels]
        send(connection, self._config, post, list(dict.fromkeys([*self.channels(row), *sorted(heard)])), at)
        if at <= now:
            outbox.hasten(connection, number, now)

    def _facts(self, connection: Connection, number: int, kind: str, now: datetime, why: str) -> tuple[Row[Any], messages.SourceFacts]:
        row = incidents.get(connection, number)
        inside = incidents.children(connection, number)
        rollbacks = [r for child in inside if (r := incidents.rollback_of(connection, child.id)) is not None and r.state not in ("blocked", "cancelled")]
        facts = messages.SourceFacts(
            kind, number, row.facts["label"], row.severity, row.owner, row.headline, row.first_window, now, why,
            [(c.monitor, f"INC-{c.id} {c.family}: {c.headline}", c.state) for c in inside], len(rollbacks), self._config.public_url,
        )
        return row, facts

    def channels(self, row: Row[Any]) -> list[str]:
        """The platform's channels and those of every affected owner."""
        owners = [self._config.monitors[m].owner for m in row.members if m in self._config.monitors]
        named = [c for owner in ("platform", *owners) for c in owner_of(self._config, owner).route(row.severity)]
        escalate = owner_of(self._config, row.owner).escalate
        if row.escalated_at is not None and escalate is not None:
            named += escalate.to
        return list(dict.fromkeys(named))

    def settle(self, connection: Connection, row: Row[Any], now: datetime, size: timedelta) -> bool:
        """Close a source's incident when none of its monitors has had an open one for two windows; True when it was closed."""
        inside = incidents.children(connection, row.id)
        if any(c.state == "open" for c in inside):
            return False
        last = max((c.closed_at for c in inside if c.closed_at is not None), default=row.opened_at)
        if now - last < QUIET_WINDOWS * size:
            return False
        incidents.update(connection, row.id, state="closed", closed_at=now, closed_window=now, reason="resolved")
        self.announce(connection, row.id, RESOLVED, now, "none of its monitors is in trouble any more", now)
        return True
