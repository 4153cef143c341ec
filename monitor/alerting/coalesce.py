"""Several messages of one incident that waited for one channel, as the one that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

VERBS = {
    "incident.fired": "fired", "incident.updated": "updated", "incident.resolved": "resolved", "incident.withdrawn": "withdrawn",
    "incident.reminder": "repeated",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits: its place in the order, its type, when it was decided, and what it says."""

    sequence: int
    created: datetime
    payload: Mapping[str, Any]
    text: str


def coalesced(waiting: Sequence[Waiting]) -> tuple[dict[str, Any], str]:
    """Payload and text of one message that stands for all of them, in order: the last one's, and what happened before it.

    ``covers`` names every sequence number that it stands for.
    """
    last = waiting[-1]
    payload = dict(last.payload)
    payload["data"] = {**payload.get("data", {}), "covers": [w.sequence for w in waiting]}
    if len(waiting) == 1:
        return payload, last.text
    payload["data"]["delayed"] = True
    steps = ", ".join(f"{VERBS.get(str(w.payload.get('type')), 'told')} {w.created:%H:%M}Z" for w in waiting)
    first, _, rest = last.text.partition("\n")
    said = [first, f"Delivered late, as one: {steps} ({waiting[0].created:%Y-%m-%d})."]
    if last.payload.get("type") in ("incident.resolved", "incident.withdrawn"):
        opened = next((w.text for w in waiting if w.payload.get("type") == "incident.fired"), "")
        said += [line for line in opened.splitlines() if line.startswith("- ")][:5]
    return payload, "\n".join([*said, rest] if rest else said)
