"""Listings of what the store knows, as the command and the API print them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from checks.core.window import iso
from monitor.config.model import Config
from monitor.proposals import kill_switch
from monitor.store import deployments, incidents, runs, silences
from monitor.store.store import Store


def overview(store: Store, config: Config) -> list[dict[str, Any]]:
    """One object per monitor: its newest window and its open incidents."""
    rows = []
    with store.read() as connection:
        for name, monitor in config.monitors.items():
            newest = runs.recent_runs(connection, name, limit=1)
            run = newest[0] if newest else None
            opened = incidents.listing(connection, "open", name)
            rows.append({
                "monitor": name, "owner": monitor.owner, "verdict": run.verdict if run else None,
                "window": iso(run.start) if run else None, "rows": run.rows if run else None,
                "windows": runs.count_runs(connection, name), "open": [f"INC-{i.id}" for i in opened],
            })
    return rows


def incident_rows(store: Store, state: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """Incidents, newest first, as ``incidents --json`` prints them."""
    with store.read() as connection:
        return [
            {
                "id": f"INC-{i.id}", "monitor": i.monitor, "family": i.family, "severity": i.severity, "state": i.state,
                "headline": i.headline, "opened_at": iso(i.opened_at.replace(microsecond=0)), "closed_at": iso(i.closed_at.replace(microsecond=0)) if i.closed_at else None,
                "reason": i.reason, "windows": i.windows, "owner": i.owner,
            }
            for i in incidents.listing(connection, state, limit=limit)
        ]


def run_rows(store: Store, monitor: str | None, limit: int) -> list[dict[str, Any]]:
    """Current runs, newest first, as ``runs --json`` prints them."""
    with store.read() as connection:
        return [
            {
                "monitor": r.monitor, "window": {"start": iso(r.start), "end": iso(r.end)}, "revision": r.revision,
                "verdict": r.verdict, "rows": r.rows, "seconds": r.seconds,
            }
            for r in runs.recent_runs(connection, monitor, limit=limit)
        ]


def release_rows(store: Store, limit: int = 20) -> list[dict[str, Any]]:
    """New model versions, the newest first, and what their first hours say."""
    with store.read() as connection:
        found = deployments.of_monitor(connection)[:limit]
    return [
        {
            "monitor": r.monitor, "version": r.version, "previous": r.previous, "since": iso(r.first_seen), "state": r.state, "verdict": r.verdict,
            "sentence": r.body.get("ended") or r.body.get("sentence", ""),
        }
        for r in found
    ]


def notices(store: Store, config: Config, now: datetime) -> list[str]:
    """What holds something back on purpose: the kill switch, and silences that last."""
    with store.read() as connection:
        stopped = kill_switch(config, connection)
        quiet = silences.current(connection, now)
    found = [f"no rollback is sent: {stopped}"] if stopped else []
    return found + [
        f"{'maintenance' if s.maintenance else 'silence'} {s.id} of {f'INC-{s.incident}' if s.incident else 'all' if s.monitor == '*' else s.monitor} until "
        f"{iso(s.ends.replace(microsecond=0))}: {s.reason} ({s.author})" for s in quiet
    ]
