"""What is due of an open incident merely because time has passed: a reminder, an escalation, a place in the daily digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

EVERY = {"fail": timedelta(hours=4), "warn": timedelta(hours=24)}
MOST = 5
DAY = timedelta(days=1)
REMIND, ESCALATE, DIGEST = "remind", "escalate", "digest"


@dataclass(frozen=True, slots=True)
class Announced:
    """An open incident as far as reminding goes. ``said`` is when anything of it was last announced."""

    severity: str
    opened: datetime
    said: datetime
    reminders: int = 0
    reminded: datetime | None = None
    acked: bool = False
    flapping: bool = False
    escalated: bool = False
    escalate_after: timedelta | None = None


def remind(incident: Announced, now: datetime) -> list[str]:
    """What is due ``now``: nothing of what somebody has acknowledged, and no reminder of what flaps.

    A fail is repeated every 4 hours and a warning every 24, at most 5 times; from then on the incident is in the owner's daily
    digest. A long pause, such as a machine that slept, makes one reminder and not many.
    """
    if incident.acked:
        return []
    due = []
    after = incident.escalate_after
    if after is not None and incident.severity == "fail" and not incident.escalated and now - incident.opened >= after:
        due.append(ESCALATE)
    if incident.flapping:
        return due
    last = max(incident.said, incident.reminded or incident.said)
    if incident.reminders < MOST:
        if now - last >= EVERY["fail" if incident.severity == "fail" else "warn"]:
            due.append(REMIND)
    elif now - last >= DAY:
        due.append(DIGEST)
    return due


def digest_text(lines: Sequence[str], day: str) -> str:
    """The daily digest of an owner's incidents that have been repeated often enough."""
    return "\n".join([f"STILL OPEN on {day}: {len(lines)} incident{'' if len(lines) == 1 else 's'}", *(f"- {line}" for line in lines),
                      "Next: driftd ack INC-N to hear no more of one, driftd resolve INC-N to close it."])
