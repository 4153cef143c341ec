"""From an announcement to outbox rows: to whom, when, and what keeps it waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.core.window import iso
from monitor.alerting import messages
from monitor.alerting.scopes import GROUP_INTERVAL
from monitor.alerting.silences import Held, Silence, release, silenced
from monitor.config.alerts import Owner
from monitor.config.model import Config, MonitorConfig
from monitor.store import incidents, outbox, silences

PLATFORM_RULES = frozenset({"service.no_data", "service.error", "service.labels", "service.silence", "service.unwatched"})
"""Rules that are the platform's: of what is not there, whatever else an incident holds."""


@dataclass(frozen=True, slots=True)
class Post:
    """One announcement, ready to be sent."""

    incident: Row[Any]
    type: str
    sequence: int
    payload: dict[str, Any]
    text: str
    now: datetime


def owner_of(config: Config, name: str, otherwise: str = "platform") -> Owner:
    """The owner of that name; where the configuration has dropped it, another."""
    return config.owners.get(name) or config.owners.get(otherwise) or config.owners["platform"]


def destinations(connection: Connection, config: Config, incident: Row[Any], otherwise: str) -> list[str]:
    """The channels that messages on an incident go to: the owner's for its severity, whom it was escalated to, and whoever has
    heard of it and must hear the end."""
    owner = owner_of(config, incident.owner, otherwise)
    if incident.scope == "channel":  # by every other channel than the one that it is about
        others = [c for c in owner.all_channels if c != incident.source] or [c for c in owner_of(config, "platform").all_channels if c != incident.source]
        return others or ["log"] * (incident.source != "log")
    named = list(owner.route(incident.severity))
    if set(incident.members) & PLATFORM_RULES and incident.scope == "monitor":
        named += owner_of(config, "platform").route(incident.severity)
    if incident.escalated_at is not None and owner.escalate is not None:
        named += owner.escalate.to
    named += sorted(c for c in outbox.addressed(connection, incident.id) if c in config.channels)
    return list(dict.fromkeys(named))


def quiet_for(current: Sequence[Silence], row: Row[Any], now: datetime) -> Silence | None:
    """The silence that holds messages on an incident back; that of a source only if every one of its monitors is silenced."""
    own = silenced(current, row.monitor, row.family, row.id, now)
    if own is not None or row.scope != "source":
        return own
    each = [silenced(current, monitor, row.family, None, now) for monitor in row.members]
    found = [s for s in each if s is not None]
    return max(found, key=lambda s: s.ends) if found and len(found) == len(each) else None


def send(connection: Connection, config: Config, post: Post, channels: Sequence[str], at: datetime, held: str = "") -> None:
    """Put a message for every channel into the outbox.

    Of an incident that a source's incident stands for only those are told who have heard of it already. A silenced one waits for
    the end of its silence, as does one (``held``) that waits for a catch-up.
    """
    row = post.incident
    told = outbox.told(connection, row.id)
    quiet = quiet_for(silences.current(connection, post.now), row, post.now)
    held = f"silence:{quiet.id}" if quiet is not None else held
    spoken_for = incidents.spoken_for(connection, row)
    heard = [channel for channel in channels if not spoken_for or channel in told]
    outbox.add_for(
        connection, heard, incident=row.id, sequence=post.sequence, kind="alert", payload=post.payload, text=post.text, now=post.now,
        next_at=at, held_by=held,
    )


def let_go(connection: Connection, config: Config, held_by: str, when: str, now: datetime) -> None:
    """Release what waited under that name; what came and went meanwhile is one line each in a summary per channel."""
    rows = outbox.held(connection, held_by)
    if not rows:
        return
    ids = {row.incident_id for row in rows if row.incident_id is not None}
    found = {i: incidents.get(connection, i) for i in ids}
    still = silences.current(connection, now)
    for row in list(rows):  # another silence lasts on, or has begun since
        of = found.get(row.incident_id)
        quiet = quiet_for(still, of, now) if of is not None else None
        if quiet is not None and f"silence:{quiet.id}" != held_by:
            outbox.hold_on(connection, row.id, f"silence:{quiet.id}")
            rows.remove(row)
    told = frozenset((i, channel) for i in ids for channel in outbox.told(connection, i) | outbox.leaving(connection, i))
    held = [Held(row.id, row.incident_id, row.destination, row.sequence) for row in rows]
    decided = release(held, frozenset(i for i, row in found.items() if row.state == "open"), told)
    outbox.let_go(connection, decided.send, now)
    key = f"summary/{held_by}/{iso(now)}"
    outbox.cover(connection, decided.drop, key)
    by_channel: dict[str, dict[int, None]] = {}
    dropped = set(decided.drop)
    for item in held:
        if item.id in dropped and item.incident is not None:
            by_channel.setdefault(item.destination, {})[item.incident] = None
    for channel, passed in by_channel.items():
        lines = [_line(found[i]) for i in passed]
        text = "\n".join([
            f"CAME AND WENT {when}: {len(lines)} incident{'' if len(lines) == 1 else 's'}", *(f"- {line}" for line in lines),
            "Nothing of this fires now. Next: driftd incidents lists them.",
        ])
        data = {"headline": f"{len(lines)} incidents came and went {when}", "incidents": [f"INC-{i}" for i in passed], "lines": lines}
        outbox.notice(connection, key, channel, {"type": "incident.summary", "timestamp": iso(now), "data": data}, text, now)


def _line(row: Row[Any]) -> str:
    ended = f" to {iso(row.closed_window or row.last_window)}" if row.state != "open" else ""
    return f"INC-{row.id} [{row.severity}] {row.monitor}: {row.headline} ({iso(row.first_window)}{ended}, {row.reason or row.state})"


def live_since(recent: Sequence[Row[Any]]) -> tuple[str, datetime | None]:
    """The version that serves now, and the window in which it began; None where it began before the ``recent`` runs.

    ``recent`` are runs, newest first.
    """
    live, since, older = "", None, False
    for row in recent:
        if not row.model_versions or not sum(row.model_versions.values()):
            continue
        version = max(row.model_versions, key=lambda v: row.model_versions[v])
        if live and version != live:
            older = True
            break
        live, since = version, row.start
    return live, since if older else None


def request_actions(connection: Connection, monitor: MonitorConfig, incident: Row[Any], now: datetime, window: tuple[datetime, datetime]) -> None:
    """Put the actions that an incident calls for into the outbox, each once for an incident."""
    for action in monitor.actions:
        if not action.meant(incident.family, incident.severity):
            continue
        data = {
            "incident": f"INC-{incident.id}", "monitor": monitor.name, "purpose": action.purpose, "family": incident.family,
            "severity": incident.severity, "headline": incident.headline, "window": {"start": iso(window[0]), "end": iso(window[1])},
        }
        outbox.add_once(
            connection, incident=incident.id, sequence=0, destination=f"action:{monitor.name}:{action.key}", kind="action",
            payload={"type": "action.requested", "timestamp": iso(now), "data": data}, text="", now=now,
        )


def plain_payload(row: Row[Any], kind: str, why: str, now: datetime, number: int) -> dict[str, Any]:
    """What the incident itself says of it, for machines."""
    return {
        "type": kind, "timestamp": iso(now),
        "data": {
            "incident": f"INC-{row.id}", "sequence": number, "covers": [number], "monitor": row.monitor, "family": row.family,
            "severity": row.severity, "owner": row.owner, "headline": row.headline, "why": why, "state": row.state, "opened_at": iso(row.opened_at),
            "window": {"start": iso(row.last_window), "end": iso(row.last_window)}, "drivers": [], "members": [], "links": {}, "delayed": False,
        },
    }


def tell(
    connection: Connection, config: Config, row: Row[Any], kind: str, now: datetime, payload: Callable[[int], dict[str, Any]], text: Callable[[int], str],
) -> None:
    """Append an announcement to an incident's log and put it into the outbox."""
    sequence, body = incidents.append(connection, row.id, kind, now, payload)
    shared = kind == "incident.fired" and len(config.sharing(row.monitor)) > 1
    at = now + GROUP_INTERVAL if shared else now
    send(connection, config, Post(row, kind, sequence, body, text(sequence), now), destinations(connection, config, row, "platform"), at)


def say_plainly(connection: Connection, config: Config, row: Row[Any], kind: str, why: str, now: datetime) -> None:
    """Announce something of an incident in the few words that the incident itself has, whatever is known of its monitor."""
    row = incidents.get(connection, row.id)
    state = messages.STATES.get(kind, kind)

    def text(sequence: int) -> str:
        return "\n".join([
            f"{state} [{row.severity}] {row.monitor}: {row.headline} (INC-{row.id}, message {sequence})", f"What changed: {why}.",
            *([f"Next: driftd incidents INC-{row.id}; driftd ack INC-{row.id} stops reminders"] if row.state == "open" else []), f"Owner: {row.owner}.",
        ])

    tell(connection, config, row, kind, now, lambda number: plain_payload(row, kind, why, now, number), text)
