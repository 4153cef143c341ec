"""Incidents of a source: when half of its monitors are in trouble at once, one incident names them all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from monitor.alerting import messages
from monitor.alerting.incidents import FIRED, RESOLVED, UPDATED
from monitor.alerting.scopes import GROUP_INTERVAL, QUIET_WINDOWS, SHARE, SILENT, Trouble, gathered, headline, kind_of, shown, wait
from monitor.config.alerts import Escalation
from monitor.config.groups import source_key, source_label
from monitor.config.model import Config
from monitor.posting import Post, owner_of, quiet_for, send
from monitor.store import incidents, outbox, silences
from monitor.store.store import one_at_a_time

MOST_NAMED = 5
LONGEST_WAIT = timedelta(hours=2)


class Sources:
    """Opens, extends and closes the incidents of sources that several monitors share."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def gather(self, connection: Connection, name: str, now: datetime, size: timedelta = LONGEST_WAIT) -> int | None:
        """After something of monitor ``name`` was announced: whether its source is the cause. Answers the source's incident.

        Whatever joins it is said: in the message that still waits, or in one of its own, which waits for two windows (of ``size``), at
        most two hours: whoever has been told that the source is in trouble need not hear of every part of it by itself. Once
        somebody has acknowledged what they were told, what is new goes out after the group interval.
        """
        group = self._config.sharing(name)
        if len(group) < 2:
            return None
        monitor = self._config.monitors[name]
        key = source_key(monitor)
        one_at_a_time(connection, f"source/{key}")
        troubles = [
            Trouble(
                row.id, row.monitor, row.family, kind_of(row.family, row.members, row.since or row.first_window), row.severity,
                row.parent_id if incidents.spoken_for(connection, row) else None,
            )
            for row in incidents.open_of(connection, group)
        ]
        known = incidents.open_source(connection, key)
        kinds = gathered(troubles, len(group))
        joining = [t for t in troubles if t.parent is None and t.kind in kinds]
        worse = known is not None and known.severity == "warn" and any(t.severity == "fail" for t in troubles if t.parent == known.id or t in joining)
        if not joining and not worse:
            return None
        if known is None:
            number = self._open(connection, key, source_label(monitor), joining, kinds, len(group), now)
            self.announce(connection, number, FIRED, now, "", now + wait(GROUP_INTERVAL))
            return number
        old = list(known.facts.get("kinds", []))
        fresh = [kind for kind in dict.fromkeys(t.kind for t in joining) if kind not in old]
        newcomers = sorted({t.monitor for t in joining} - set(known.members))
        incidents.update(
            connection, known.id, members=list(dict.fromkeys([*known.members, *(t.monitor for t in joining)])),
            facts={**known.facts, "kinds": [*old, *fresh], "group": len(group)}, last_window=now, severity="fail" if worse else known.severity,
        )
        self._adopt(connection, known.id, joining)
        named = [*newcomers[:MOST_NAMED], *([f"{len(newcomers) - MOST_NAMED} more"] if len(newcomers) > MOST_NAMED else [])]
        self._tell(connection, int(known.id), [shown(kind) for kind in fresh] + named, worse, now, timedelta(0) if known.acked_by else min(2 * size, LONGEST_WAIT))
        return int(known.id)

    def _open(
        self, connection: Connection, key: str, label: str, joining: list[Trouble], kinds: list[str], monitors: int, now: datetime,
    ) -> int:
        severity = "fail" if any(t.severity == "fail" or t.kind == SILENT for t in joining) else "warn"
        number = incidents.create(
            connection, monitor=f"source {label}"[:200], family=joining[0].family, severity=severity, state="open", owner="platform",
            headline=headline(label, joining, monitors), opened_at=now, reason="", first_window=now, last_window=now, windows=1,
            members=list(dict.fromkeys(t.monitor for t in joining)), facts={"kinds": kinds, "label": label, "group": monitors}, hold_by="",
            scope="source", source=key, fail_since=now if severity == "fail" else None,
        )
        self._adopt(connection, number, joining)
        return number

    @staticmethod
    def _adopt(connection: Connection, number: int, joining: list[Trouble]) -> None:
        """The source's incident speaks for these from now on; what was not sent yet of them is covered by it."""
        for trouble in joining:
            incidents.update(connection, trouble.incident, parent_id=number)
            outbox.cover_unsent(connection, trouble.incident, f"INC-{number}")

    def speak_again(self, connection: Connection, incident: int) -> None:
        """An incident that came back or got graver speaks for itself, unless others have the same trouble now."""
        incidents.update(connection, incident, parent_id=None)

    def _tell(self, connection: Connection, number: int, what: Sequence[str], worse: bool, now: datetime, pause: timedelta) -> None:
        """Say what has joined: in the newest message as long as that waits, else in another, which waits for what joins next."""
        said = incidents.announcements(connection, number)[-1]
        if outbox.waits(connection, number, said.sequence):
            before = str(said.payload["data"].get("why", "")).removeprefix("also ")
            also = ", ".join(dict.fromkeys([*([before] if before else []), *what]))
            self._renew(connection, number, said, f"also {also}" if also and said.type != FIRED else "", now)
            if worse:
                outbox.hasten(connection, number, now)
        elif worse or what:
            why = "; ".join(["now fail"] * worse + [f"also {', '.join(what)}"] * bool(what))
            if worse:
                incidents.update(connection, number, fail_since=now, acked_by="", acked_at=None, escalated_at=None, reminders=0, reminded_at=None)
            self.announce(connection, number, UPDATED, now, why, now if worse else now + pause + GROUP_INTERVAL)

    def _renew(self, connection: Connection, number: int, said: Row[Any], why: str, now: datetime) -> None:
        row, facts = self._facts(connection, number, said.type, now, why)
        body, text = messages.source_payload(facts, said.sequence), messages.source_text(facts, said.sequence)
        at = outbox.renew(connection, number, said.sequence, body, text)
        incidents.reword(connection, number, said.sequence, body, now)
        quiet = quiet_for(silences.current(connection, now), row, now)
        for channel in self.channels(row):
            outbox.add_once(
                connection, incident=number, sequence=said.sequence, destination=channel, kind="alert", payload=body, text=text, now=now,
                next_at=at or now, held_by=f"silence:{quiet.id}" if quiet is not None else "",
            )

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
        troubles = [
            Trouble(c.id, c.monitor, c.family, kind_of(c.family, c.members, c.since or c.first_window), c.severity, number)
            for c in inside if c.state == "open"
        ]
        if troubles and row.state == "open":  # whoever has recovered is not named any more
            incidents.update(connection, number, headline=headline(row.facts["label"], troubles, int(row.facts.get("group", len(row.members)))), windows=len(row.members))
            row = incidents.get(connection, number)
        rollbacks = [r for child in inside if (r := incidents.rollback_of(connection, child.id)) is not None and r.state not in ("blocked", "cancelled")]
        facts = messages.SourceFacts(
            kind, number, row.facts["label"], row.severity, row.owner, row.headline, row.first_window, now, why,
            [(c.monitor, f"INC-{c.id} {c.family}: {c.headline}", c.state) for c in inside], len(rollbacks), self._config.public_url,
        )
        return row, facts

    def channels(self, row: Row[Any]) -> list[str]:
        """The platform's channels and those of every affected owner."""
        named = [c for owner in self._owners(row) for c in owner_of(self._config, owner).route(row.severity)]
        escalation = self.escalation(row) if row.escalated_at is not None else None
        return list(dict.fromkeys([*named, *(escalation.to if escalation is not None else [])]))

    def _owners(self, row: Row[Any]) -> list[str]:
        return ["platform", *dict.fromkeys(self._config.monitors[m].owner for m in row.members if m in self._config.monitors)]

    def escalation(self, row: Row[Any]) -> Escalation | None:
        """Who else is told when nobody acknowledges: whom the platform or any owner names, after the shortest of their times."""
        found = [e for owner in self._owners(row) if (e := owner_of(self._config, owner).escalate) is not None]
        if not found:
            return None
        return Escalation(after=min(e.after for e in found), to=list(dict.fromkeys(c for e in found for c in e.to)))

    def settle(self, connection: Connection, row: Row[Any], now: datetime, size: timedelta) -> list[Row[Any]] | None:
        """Close a source's incident when its monitors have been well for two windows.

        Where a few still are not, while the others have been for so long, those few speak for themselves again: they are answered.
        None while it goes on.
        """
        inside = incidents.children(connection, row.id)
        still = [c for c in inside if c.state == "open"]
        names = {c.monitor for c in still}
        last = max((c.closed_at for c in inside if c.closed_at is not None), default=row.opened_at)
        few = len(names) < 2 or len(names) < SHARE * int(row.facts.get("group", len(row.members)))
        if (still and not few) or now - last < QUIET_WINDOWS * size:
            return None
        incidents.update(connection, row.id, state="closed", closed_at=now, closed_window=now, reason="resolved")
        for child in still:
            incidents.update(connection, child.id, parent_id=None)
        why = f"only {', '.join(sorted(names))} still {'is' if len(names) == 1 else 'are'} in trouble: told apart" if still else "none of its monitors is in trouble any more"
        self.announce(connection, row.id, RESOLVED, now, why, now)
        return still
