"""What a report shows, from the store: plain values and profiles for the worker that renders it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.calibration.ledger import balance
from checks.core.errors import StoreError
from checks.core.window import Window, iso
from monitor.alerting.lateness import AGES, usual_of
from monitor.config.model import Config
from monitor.config.types import format_budget
from monitor.ports import ReportJob
from monitor.prepare import Prepared
from monitor.store import deployments, incidents, runs

HISTORY = 60
MOST_P_VALUES = 500
SHOWN_AGES = frozenset({0, 1, 4, 5, 7, 8, 10, 11, 12})


def build_view(connection: Connection, config: Config, prepared: Prepared, window: Window) -> ReportJob:
    """The job that renders the report of a window's current run."""
    name = prepared.monitor.name
    run = runs.current_run(connection, name, window.start)
    if run is None:
        raise StoreError(f"monitor {name}: the window {iso(window.start)} has not been evaluated; see driftd runs {name}")
    since = window.start - HISTORY * timedelta(seconds=prepared.settings.size_seconds)
    history = runs.history(connection, name, since, window.start)
    open_here = incidents.at(connection, name, window.start, window.end)
    view: dict[str, Any] = {
        "monitor": name, "owner": prepared.monitor.owner, "runbook": prepared.monitor.runbook,
        "window": [iso(window.start), iso(window.end)], "timezone": prepared.monitor.window.timezone, "as_of": iso(run.as_of),
        "evaluated_at": iso(run.evaluated_at), "verdict": run.verdict, "rows": run.rows, "revision": run.revision,
        "error": run.error, "sections": run.sections, "versions": run.model_versions, "binning": run.binning,
        "config_hash": run.config_hash, "baseline": len(run.baseline), "driftd": run.driftd_version, "snapshot": run.snapshot,
        "history": [[iso(r.start), r.verdict, r.rows] for r in history],
        "metrics": _metric_history(connection, name, since, window.start),
        "incidents": [
            {
                "id": i.id, "family": i.family, "severity": i.severity, "headline": i.headline, "since": iso(i.first_window),
                "rollback": _rollback(incidents.rollback_of(connection, i.id)),
            }
            for i in open_here
        ],
    }
    view |= {"run": run.id, "labels_as_of": iso(run.labels_checked) if run.labels_checked else "", "source": _source(run.plan or {}), "deployments": _deployments(connection, name, window), "lateness": _lateness(connection, name)}
    view["calibration"] = _calibration(connection, prepared, window)
    pinned = runs.baseline_of(connection, name, run.baseline)
    profile = runs.profile_of(connection, name, window.start, run.revision)
    return ReportJob(prepared.monitor, view, prepared.binning, profile, prepared.reference, pinned)


def _calibration(connection: Connection, prepared: Prepared, window: Window) -> dict[str, Any]:
    """The budget, what it has been used for, and the p-values of every window so far."""
    name, budget = prepared.monitor.name, prepared.monitor.drift.budget
    spent = [moment for moment in incidents.tokens(connection, name) if moment <= window.start]
    since = max(prepared.settings.start, window.start - MOST_P_VALUES * timedelta(seconds=prepared.settings.size_seconds))
    found = [i for i in incidents.listing(connection, monitor=name) if i.family == "drift" and i.first_window <= window.start and i.state != "withdrawn"]
    return {
        "budget": format_budget(budget), "tokens": int(balance(budget, spent, window.start)), "incidents": len(found),
        "allowed": budget.per(max(window.end - prepared.settings.start, timedelta(0))), "since": iso(since),
        "p_values": runs.drift_p_values(connection, name, since, window.start),
    }


def _source(plan: dict[str, Any]) -> str:
    """What the rows were read from, in a few words."""
    source = plan.get("source") or {}
    files = source.get("files")
    if files is not None:
        return f"{len(files)} file{'' if len(files) == 1 else 's'} of {sum(f[1] for f in files):,} bytes"
    return str(source.get("table") or "a query" if source else "")


def _deployments(connection: Connection, name: str, window: Window) -> list[dict[str, Any]]:
    """The versions whose first days reach into the window."""
    return [
        {
            "version": row.version, "previous": row.previous, "since": iso(row.first_seen), "state": row.state, "verdict": row.verdict,
            "sentence": row.body.get("sentence", "no full hour has been looked at yet"), "rows": row.body.get("rows", 0),
            "hours": row.body.get("hours", 0), "old_rows": row.body.get("old_rows", 0), "against": row.body.get("against", ""),
        }
        for row in deployments.of_monitor(connection, name) if row.first_seen < window.end and row.until > window.start
    ]


def _lateness(connection: Connection, name: str) -> dict[str, Any] | None:
    """How late labels come: usual and slow shares by age, and those of the newest windows."""
    found = deployments.triangle(connection, name)
    usual = usual_of([ages for _, final, ages in found if final])
    if usual is None:
        return None
    ages = [age for at, age in enumerate(AGES) if age in usual.median and (at in SHOWN_AGES or age == max(usual.median))]
    places = [AGES.index(age) for age in ages]
    return {
        "windows": usual.windows, "ages": [_age(age) for age in ages], "median": [usual.median[age] for age in ages],
        "low": [usual.low[age] for age in ages],
        "rows": [(iso(start), [shares[at] if at < len(shares) else None for at in places]) for start, _, shares in found[:-9:-1]],
    }


def _age(age: timedelta) -> str:
    hours = round(age.total_seconds() / 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"


def _rollback(row: Row[Any] | None) -> str:
    return "" if row is None else f"{row.state}: {row.detail}"


def _metric_history(connection: Connection, name: str, since: datetime, until: datetime) -> dict[str, list[Any]]:
    """The metrics of ALL with a limit, per window of the history."""
    found: dict[str, list[Any]] = {}
    for row in runs.metric_history(connection, name, since, until):
        found.setdefault(row.rule, []).append([iso(row.start), row.value, row.low, row.high])
    return found
