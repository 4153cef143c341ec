"""Incidents of channels: what does not get through by one is told by another, until it works again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from monitor import posting
from monitor.alerting.incidents import FIRED, RESOLVED, UPDATED
from monitor.config.model import Config
from monitor.store import destinations, incidents, outbox

TELL_AGAIN = timedelta(hours=1)
QUIET = timedelta(days=1)
CHANNEL = "channel"
"""The scope of such an incident; its source is the channel's name."""

RULE = "service.channel"


def dead_letter(connection: Connection, config: Config, message: Any, why: str, now: datetime) -> None:
    """A message did not get through: an incident of its channel, told by other channels of its owner, at most once an hour."""
    name = str(message.destination)
    of = incidents.get(connection, message.incident_id) if message.incident_id is not None else None
    if of is not None and of.scope == CHANNEL:
        return  # what says so did not get through either: the other channels of that incident say it
    destinations.save(connection, name)
    known = destinations.locked(connection, name)
    if known is not None and known.told_at is not None and now - known.told_at < TELL_AGAIN:
        return
    destinations.save(connection, name, told_at=now)
    off = known is not None and known.disabled_at is not None
    headline = f"channel {name} {'is switched off' if off else 'did not take a message'}: {why}"[:1000]
    mine = incidents.open_channel(connection, name)
    values: dict[str, Any] = {"headline": headline, "severity": "fail" if off else "warn", "last_window": now}
    if mine is None:
        number = incidents.create(
            connection, monitor=f"channel {name}"[:200], family="service", state="open", owner=of.owner if of is not None else "platform", opened_at=now,
            reason="", first_window=now, windows=1, members=[RULE], facts={"members": [], "off": off}, hold_by="", scope=CHANNEL, source=name,
            fail_since=now if off else None, **values,
        )
    else:
        number = mine.id
        incidents.update(connection, number, **values, windows=mine.windows + 1, facts={**mine.facts, "off": off or bool(mine.facts.get("off"))})
    said = (message.text or "").partition("\n")[0] or f"a request to {name}"
    next_step = f"mend it, then driftd channel test {name} switches it on again" if off else "driftd outbox list shows what is dead, driftd outbox replay sends it again"
    row = incidents.get(connection, number)

    def payload(sequence: int) -> dict[str, Any]:
        body = posting.plain_payload(row, FIRED if mine is None else UPDATED, "", now, sequence)
        return {**body, "data": {**body["data"], "channel": name, "message": said, "switched_off": off}}

    def text(sequence: int) -> str:
        return f"NOT DELIVERED: {headline} (INC-{number}, message {sequence})\nThe message was: {said}\nNext: {next_step}.\nOwner: {row.owner}."

    posting.tell(connection, config, row, FIRED if mine is None else UPDATED, now, payload, text)


def mended(connection: Connection, config: Config, row: Row[Any], now: datetime) -> bool:
    """Close a channel's incident once it takes messages again, or has refused no other for a day; True when it was closed."""
    known = destinations.of(connection, row.source)
    down = known is not None and (known.disabled_at is not None or known.failures > 0)
    quiet = now - row.last_window >= QUIET
    if down or not (row.facts.get("off") or quiet or outbox.sent_since(connection, row.source, row.last_window)):
        return False
    why = "takes messages again" if row.facts.get("off") or not quiet else "has refused nothing more for a day"
    incidents.update(connection, row.id, state="closed", closed_at=now, closed_window=now, reason="resolved")
    posting.say_plainly(connection, config, incidents.get(connection, row.id), RESOLVED, f"channel {row.source} {why}", now)
    return True
