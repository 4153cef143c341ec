"""Evaluating a stored run again, as it was judged then, and comparing digit by digit."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from checks.core.errors import ConfigError, DriftdError, PlanChanged
from checks.core.window import Window, iso
from monitor import __version__
from monitor.alerting.drift import raised
from monitor.alerting.fold import DRIFT_RULE, DRIVER
from monitor.history import unpinned
from monitor.pipeline import Pipeline
from monitor.ports import Outcome, RuleResult, RunJob
from monitor.store import runs

_NAMED = re.compile(r"^(?P<monitor>[^@#]+)@(?P<window>[^#]+)(#(?P<revision>\d+))?$")
FIELDS = ("value", "low", "high", "n", "verdict")


def find_run(pipeline: Pipeline, text: str) -> Row[Any]:
    """The run that ``text`` names: its number, or MONITOR@WINDOW, the newest revision or #REVISION of it."""
    assert pipeline.store is not None
    if text.isdigit():
        with pipeline.store.read() as connection:
            row = runs.run_by_id(connection, int(text))
    else:
        match = _NAMED.match(text)
        if match is None:
            raise ConfigError(f"{text!r} names no run; a run is its number, or MONITOR@WINDOW, or MONITOR@WINDOW#REVISION")
        pipeline.config.monitor(match["monitor"])
        window = pipeline.prepare(match["monitor"]).grid.parse_start(match["window"])
        with pipeline.store.read() as connection:
            row = runs.run_of(connection, match["monitor"], window.start, int(match["revision"]) if match["revision"] else None)
    if row is None:
        raise ConfigError(f"there is no run {text}")
    return row


def reproduce(pipeline: Pipeline, run: Row[Any]) -> dict[str, Any]:
    """What the run's window says now, judged by the baseline, the labels' time and the levels of then: every difference.

    What a run decides by the tokens of its day, the drift verdict, is not decided again; its p-value is.
    """
    assert pipeline.store is not None
    if run.error:
        raise ConfigError(f"run {run.id} failed as a whole: {run.error}")
    prepared = pipeline.prepare(run.monitor)
    window = Window(run.start, run.end)
    notes = []
    if run.binning != prepared.binning_hash:
        raise PlanChanged(
            f"run {run.id} was judged under binning {run.binning}; the reference was built anew since, under {prepared.binning_hash}"
        )
    if run.driftd_version != __version__:
        notes.append(f"it was made by driftd {run.driftd_version}, this is {__version__}")
    if run.config_hash != pipeline.config.hashes.get(run.monitor, ""):
        notes.append("the monitor's configuration has changed since")
    with pipeline.store.read() as connection:
        past = unpinned(connection, run.monitor, pipeline.history(prepared, window), run)
        stored = runs.results_of(connection, run.id)
    if len(past.baseline) < len(run.baseline):
        notes.append(f"{len(run.baseline) - len(past.baseline)} of {len(run.baseline)} baseline profiles are not kept any more")
    if prepared.monitor.labels is not None and prepared.settings.label_timestamp is None:
        notes.append("labels have no time: those that came since are counted, too")
    now: datetime = run.labels_checked or run.evaluated_at
    job = RunJob(
        prepared.monitor, prepared.settings, prepared.binning, prepared.key, window, run.as_of, now, past.baseline, prepared.reference,
        None, past.rollup, pipeline.keys(run.monitor, window), past.carried, past.accepted, past.widen,
        *pipeline.calibrations.of(prepared, save=False),
    )
    try:
        outcome: Outcome = pipeline.workers.run(job)
    except DriftdError as error:
        raise type(error)(f"run {run.id} cannot be evaluated again: {error}") from None
    notes += lineage_notes(run, outcome)
    differences = compare(stored, list(raised(list(outcome.results), run.sections)))
    return {
        "run": run.id, "monitor": run.monitor, "window": iso(run.start), "revision": run.revision, "same": not differences and run.rows == outcome.rows,
        "rows": [run.rows, outcome.rows], "results": len([r for r in stored if _judged(r)]), "differences": differences, "notes": notes,
        "lineage": lineage(run),
    }


def _judged(result: RuleResult) -> bool:
    return not (result.rule == DRIFT_RULE or result.state in (DRIVER, "deferred") or result.rule == "service.error" or result.rule.startswith("drift["))


def compare(stored: list[RuleResult], now: list[RuleResult]) -> list[dict[str, Any]]:
    """The results that differ in any digit."""
    before, after = ({r.rule: r for r in results if _judged(r)} for results in (stored, now))
    found = []
    for rule in sorted({*before, *after}):
        old, new = before.get(rule), after.get(rule)
        if old is None or new is None:
            found.append({"rule": rule, "field": "result", "then": old is not None, "now": new is not None})
            continue
        for field in FIELDS:
            then, again = getattr(old, field), getattr(new, field)
            if then != again:
                found.append({"rule": rule, "field": field, "then": then, "now": again})
    return found


def lineage(run: Row[Any]) -> dict[str, Any]:
    """What a run was made of."""
    plan = run.plan or {}
    return {
        "model_versions": run.model_versions, "source": plan.get("source", {}), "snapshot": run.snapshot, "fingerprint": run.fingerprint,
        "contract": {"id": run.contract_id, "version": run.contract_version, "hash": run.contract_hash}, "config_hash": run.config_hash,
        "driftd_version": run.driftd_version, "binning": run.binning, "baseline": len(run.baseline), "as_of": iso(run.as_of),
        "evaluated_at": iso(run.evaluated_at), "labels_as_of": iso(run.labels_checked) if run.labels_checked else None,
    }


def lineage_notes(run: Row[Any], outcome: Outcome) -> list[str]:
    """What has changed under a run: its files, its contract."""
    notes = []
    then = {f[0]: f[1:] for f in ((run.plan or {}).get("source", {}).get("files") or [])}
    now = {f[0]: f[1:] for f in (outcome.plan.get("source", {}).get("files") or [])}
    for path in sorted({*then, *now}):
        if path not in now:
            notes.append(f"{path} is gone")
        elif path not in then:
            notes.append(f"{path} is new")
        elif list(then[path]) != list(now[path]):
            notes.append(f"{path} has changed: {then[path][0]} bytes of {then[path][1]}, now {now[path][0]} bytes of {now[path][1]}")
    if not then and run.fingerprint != outcome.fingerprint:
        notes.append("the rows have changed since")
    if run.contract_hash != outcome.contract_hash:
        notes.append(f"the contract has changed: {run.contract_version} ({run.contract_hash}), now {outcome.contract_version} ({outcome.contract_hash})")
    return notes

