"""What quality needs beside one window: calibration from the reference, how late labels are, versions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row

from checks.core.errors import DriftdError, StoreError
from checks.core.result import Verdict, roll_up
from checks.core.window import Window
from monitor.alerting.lateness import HALF, late_labels, usual_of
from monitor.clock import Clock
from monitor.config.model import MonitorConfig
from monitor.config.quality import ESTIMATED
from monitor.ports import CalibrationJob, CompareJob, Observation, QualityAnswer, RuleResult, Workers
from monitor.prepare import Prepared
from monitor.store import deployments
from monitor.store.store import Store

LOG = structlog.get_logger("driftd.quality")
LEAST_SHARE = 0.5
"""Share of the reference rows that must have labels before calibration is learned from them."""

TRY_AGAIN = timedelta(days=1)
COMPARED = 60
"""Windows over which two versions are compared at most."""

LEAST_UNKNOWN, MOST_UNKNOWN, NEARLY_ALL = 100, 0.5, 0.95
"""Labels of unknown ids are said from so many labels on: beside late labels from half, by themselves where nearly all are.

A table may well hold the labels of more than this model predicts.
"""


class Calibrations:
    """What the labels of each monitor's reference teach, made once and kept in the store."""

    def __init__(self, store: Store | None, workers: Workers, clock: Clock) -> None:
        self._store, self._workers, self._clock = store, workers, clock
        self._known: dict[tuple[str, str], bytes] = {}
        self._failed: dict[tuple[str, str], tuple[datetime, str]] = {}

    def of(self, prepared: Prepared, *, save: bool = True) -> tuple[bytes | None, str]:
        """The counts of the reference windows, or why there are none (yet: they are tried again a day later)."""
        monitor = prepared.monitor
        if monitor.labels is None or not monitor.quality.estimate or monitor.columns.id is None:
            return None, "there are no labels to learn from"
        if monitor.columns.score is None and monitor.task != "regression":
            return None, "there is no score to estimate from"
        if monitor.reference.path is not None:
            return None, "the reference is a file: its labels are not known"
        key = (monitor.name, prepared.binning_hash)
        if key in self._known:
            return self._known[key], ""
        now = self._clock.now()
        tried = self._failed.get(key)
        if tried is not None and tried[0] <= now < tried[0] + TRY_AGAIN:
            return None, tried[1]
        found, why = self._stored(key), ""
        if found is None:
            found, why = self._learned(prepared, now, save)
        if found is None:
            self._failed[key] = (now, why)
        else:
            self._known[key] = found
        return found, why

    def _stored(self, key: tuple[str, str]) -> bytes | None:
        if self._store is None:
            return None
        with self._store.read() as connection:
            return deployments.calibration(connection, *key)

    def _learned(self, prepared: Prepared, now: datetime, save: bool) -> tuple[bytes | None, str]:
        settings, name = prepared.settings, prepared.monitor.name
        windows = tuple(prepared.grid.between(settings.reference_from, settings.reference_to))
        if not windows:
            return None, "the reference has no windows"
        try:
            body, share = self._workers.run(CalibrationJob(prepared.monitor, settings, prepared.binning, windows, now))
        except DriftdError as error:
            if isinstance(error, StoreError):
                raise
            LOG.warning("calibration not learned", monitor=name, reason=str(error))
            return None, str(error)
        if share < LEAST_SHARE:
            return None, f"{share:.0%} of the reference rows have labels; {LEAST_SHARE:.0%} are needed"
        if save and self._store is not None:
            with self._store.write() as connection:
                span = Window(settings.reference_from, settings.reference_to)
                deployments.save_calibration(connection, name, prepared.binning_hash, span, body)
        return bytes(body), ""


def renewed(old: dict[str, Any] | None, results: Sequence[RuleResult], answer: QualityAnswer) -> QualityAnswer:
    """A recount beside what needs no labels and was measured before: estimates, business figures, parity, the weakest slices."""
    if not old:
        return answer
    rows = [row for row in old["metrics"] if row.get("estimated")]
    carried = {"kpis": "quality.kpi[", "parity": "quality.parity", "estimate": f"quality.{ESTIMATED}"}
    kept = [r for r in results if r.rule.startswith(tuple(start for key, start in carried.items() if key not in answer.section))]
    grave = [Verdict(r.verdict) for r in kept if Verdict(r.verdict).breach or r.verdict == "error"]
    section = {**answer.section, "metrics": [*answer.section["metrics"], *rows]}
    section |= {key: old[key] for key in ("estimate", "weakest", "kpis", "parity") if key in old and key not in answer.section}
    section["verdict"] = str(roll_up([Verdict(section["verdict"]), *grave]))
    return replace(answer, section=section, results=(*answer.results, *kept))


def says_the_same(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    """Whether a recount found nothing new."""
    return old == new


def served_together(section: dict[str, Any] | None) -> tuple[str, str] | None:
    """The two served versions with the most labelled rows of a window, the most first; None where one served alone."""
    versions = [v["version"] for v in (section or {}).get("versions", []) if not v["shadow"] and v["rows"] and v["version"]]
    return (versions[0], versions[1]) if len(versions) > 1 else None


def compared(
    store: Store | None, prepared: Prepared, workers: Workers, window: Window, section: dict[str, Any] | None, counts: bytes | None,
) -> dict[str, Any] | None:
    """The section with the comparison of the two versions that served its window, over the windows up to it."""
    both = served_together(section)
    if both is None or section is None or store is None or not counts:
        return section
    since = window.start - COMPARED * timedelta(seconds=prepared.settings.size_seconds)
    with store.read() as connection:
        windows = dict(deployments.label_counts(connection, prepared.monitor.name, since, window.start)) | {window.start: counts}
        first, second = in_order(connection, prepared.monitor.name, both)
    job = CompareJob(prepared.monitor, prepared.settings, first, second, tuple(sorted(windows.items())))
    try:
        return {**section, "compared": workers.run(job)}
    except DriftdError as error:
        return {**section, "compared": {"verdict": "undecided", "reason": str(error), "first_version": first, "second_version": second}}


def in_order(connection: Connection, monitor: str, both: tuple[str, str]) -> list[str]:
    """The two versions, the one that was there first before the other."""
    watched = {row.version: row.first_seen for row in deployments.of_monitor(connection, monitor)}
    early = datetime.min.replace(tzinfo=next(iter(watched.values())).tzinfo) if watched else None
    return sorted(both, key=lambda v: watched.get(v, early)) if early is not None else list(both)


def late(connection: Connection, monitor: MonitorConfig, open_runs: Sequence[Row[Any]], seen: Observation, now: datetime) -> str:
    """Why the labels of a monitor are later than usual, or empty."""
    assert monitor.labels is not None
    after = None if monitor.labels.late_after == "auto" else monitor.labels.late_after
    waiting = [r for r in open_runs if r.labelled is not None and r.rows and r.quality_state in ("waiting", "provisional")]
    if after is None:  # a window with half of its labels is not late
        waiting = [r for r in waiting if max(float(r.labelled), seen.labelled.get(r.start, 0.0)) < HALF]
    if not waiting:
        return ""
    shares = {r.start: (max(float(r.labelled), seen.labelled.get(r.start, 0.0)), int(r.rows)) for r in waiting}
    # Only windows older than every one that waits: of newer ones the quick alone are complete, and would seem to be the usual.
    oldest = min(r.start for r in open_runs if r.quality_state in ("waiting", "provisional"))
    settled = deployments.triangle(connection, monitor.name, before=oldest) if after is None else []
    usual = usual_of([ages for _, final, ages in settled if final])
    return late_labels(usual, shares, {r.start: r.end for r in waiting}, now, after)


def unknown(seen: Observation) -> tuple[float, str] | None:
    """The share of labels that match no prediction, and that in words; None where this look did not read them, or too few."""
    if seen.label_rows < LEAST_UNKNOWN:
        return None
    return seen.unknown_labels / seen.label_rows, (
        f"{seen.unknown_labels:,} of {seen.label_rows:,} labels are of no prediction: they are of another model, their ids are written "
        "otherwise, or they come later than labels.give_up"
    )
