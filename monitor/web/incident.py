"""One incident as the page, the API and the command show it: what it is, what was said of it and to whom, who did what, its rollback."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from checks.core.window import Window, iso
from monitor.announce import report_name
from monitor.store import incidents, outbox, runs
from monitor.store.store import Store, audited

SHOWN = ("incident.ack", "incident.hold", "incident.release", "incident.resolve", "incident.escalated", "silence.begin")


def incident_detail(store: Store, number: int) -> dict[str, Any] | None:
    """Everything that the store knows of one incident, oldest first; None where there is no such incident.

    ``timeline`` holds what was announced, what people did and what became of the rollback, by time; ``deliveries`` one row for each
    message and destination.
    """
    with store.read() as connection:
        row = incidents.find(connection, number)
        if row is None:
            return None
        announced = incidents.announcements(connection, number)
        messages = outbox.of_incident(connection, number)
        rollback = incidents.rollback_of(connection, number)
        deeds = audited(connection, number, row.opened_at)
        inside = incidents.children(connection, number) if row.scope == "source" else []
        run = runs.current_run(connection, row.monitor, row.last_window)
    texts = {m.sequence: m.text for m in messages if m.kind == "alert"}
    timeline = [
        {
            "at": _time(a.at), "what": a.type.removeprefix("incident."), "by": "driftd", "detail": a.payload.get("data", {}).get("why", ""),
            "sequence": a.sequence, "text": texts.get(a.sequence, ""),
        }
        for a in announced
    ]
    timeline += [
        {"at": _time(d.at), "what": d.action.partition(".")[2] if d.action in SHOWN else d.action.replace(".", " ").replace("_", " "), "by": d.actor, "detail": _detail(d.body), "sequence": None, "text": ""}
        for d in deeds if d.action in SHOWN or d.action.startswith("rollback.")
    ]
    return {
        "id": f"INC-{row.id}", "monitor": row.monitor, "family": row.family, "severity": row.severity, "state": row.state,
        "headline": row.headline, "owner": row.owner, "reason": row.reason, "first_window": iso(row.first_window), "last_window": iso(row.last_window),
        "windows": row.windows, "opened_at": _time(row.opened_at), "closed_at": _time(row.closed_at), "acked_by": row.acked_by or None,
        "held_by": row.hold_by or None, "flapping": bool(row.flapping), "part_of": f"INC-{row.parent_id}" if row.parent_id else None,
        "members": _members(row), "newest": announced[-1].sequence if announced else None, "inside": [
            {"id": f"INC-{c.id}", "monitor": c.monitor, "family": c.family, "state": c.state, "headline": c.headline} for c in inside
        ],
        "timeline": sorted(timeline, key=lambda t: str(t["at"])),
        "deliveries": [
            {
                "sequence": m.sequence, "destination": m.destination, "state": m.state, "attempts": m.attempts, "at": _time(m.sent_at),
                "error": m.error, "covered_by": m.covered_by or None, "waits_for": m.held_by or None, "key": m.key,
            }
            for m in messages
        ],
        "rollback": {
            "state": rollback.state, "mode": rollback.mode, "from_version": rollback.from_version, "to_version": rollback.to_version,
            "detail": rollback.detail, "guards": rollback.guards, "posts": rollback.posts,
        } if rollback is not None else None,
        "report": report_name(row.monitor, Window(run.start, run.end)) if run is not None else None,
    }


def _members(row: Row[Any]) -> list[dict[str, Any]]:
    return [{"rule": m["rule"], "verdict": m["verdict"], "reason": m["reason"]} for m in row.facts.get("members", [])]


def _detail(body: dict[str, Any]) -> str:
    return str(body.get("detail") or body.get("reason") or (f"to {', '.join(body['to'])}" if body.get("to") else ""))


def _time(moment: datetime | None) -> str | None:
    return iso(moment.replace(microsecond=0)) if moment is not None else None
