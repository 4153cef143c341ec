"""What a report shows, from the store: plain values and profiles for the worker that renders it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy.engine import Connection

from checks.core.errors import StoreError
from checks.core.window import Window, iso
from monitor.config.model import Config
from monitor.ports import ReportJob
from monitor.prepare import Prepared
from monitor.store import incidents, runs

HISTORY = 60


def build_view(connection: Connection, config: Config, prepared: Prepared, window: Window) -> ReportJob:
    """The job that renders the report of a window's current run."""
    name = prepared.monitor.name
    run = runs.current_run(connection, name, window.start)
    if run is None:
        raise StoreError(f"monitor {name}: the window {iso(window.start)} has not been evaluated; see driftd runs {name}")
    since = window.start - HISTORY * timedelta(seconds=prepared.settings.size_seconds)
    history = [r for r in runs.recent_runs(connection, name, since=since) if r.start <= window.start]
    open_here = [
        i for i in incidents.listing(connection, monitor=name)
        if i.first_window <= window.start and (i.closed_window is None or window.start < i.closed_window) and i.state != "withdrawn"
    ]
    rollback = {i.id: incidents.rollback_of(connection, i.id) for i in open_here}
    view: dict[str, Any] = {
        "monitor": name, "owner": prepared.monitor.owner, "runbook": prepared.monitor.runbook,
        "window": [iso(window.start), iso(window.end)], "timezone": prepared.monitor.window.timezone, "as_of": iso(run.as_of),
        "evaluated_at": iso(run.evaluated_at), "verdict": run.verdict, "rows": run.rows, "revision": run.revision,
        "error": run.error, "sections": run.sections, "versions": run.model_versions, "binning": run.binning,
        "config_hash": run.config_hash, "baseline": len(run.baseline), "driftd": run.driftd_version,
        "history": [[iso(r.start), r.verdict, r.rows] for r in reversed(history)],
        "metrics": _metric_history(connection, name, [r.start for r in reversed(history)]),
        "incidents": [
            {
                "id": i.id, "family": i.family, "severity": i.severity, "headline": i.headline, "since": iso(i.first_window),
                "rollback": f"{rollback[i.id].state}: {rollback[i.id].detail}" if rollback[i.id] is not None else "",
            }
            for i in open_here
        ],
    }
    pinned = runs.baseline_of(connection, name, run.baseline)
    profile = runs.profile_of(connection, name, window.start, run.revision)
    return ReportJob(prepared.monitor, view, prepared.binning, profile, prepared.reference, pinned)


def _metric_history(connection: Connection, name: str, starts: list[Any]) -> dict[str, list[Any]]:
    """The metrics of ALL with a limit, per window of the history."""
    if not starts:
        return {}
    found: dict[str, list[Any]] = {}
    for window, results in runs.results_since(connection, name, starts[0]):
        if window.start > starts[-1]:
            break
        for result in results:
            if result.family == "quality" and result.slice == "ALL" and result.value is not None:
                found.setdefault(result.rule, []).append([iso(window.start), result.value, result.low, result.high])
    return found
