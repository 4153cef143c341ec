"""Counting what each version did, hour by hour, and judging a new one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from checks.core.outputs import SCORE_BINS
from checks.core.sketch import Sketch
from checks.core.window import Window
from checks.performance.methods.deployment import Bounds, Hour, as_json, from_bytes, judge, to_bytes, total
from monitor.arrow_types import to_micros
from monitor.config.model import MonitorConfig
from monitor.evaluation.estimates import calibrator_of
from monitor.evaluation.quality import read_table
from monitor.ports import DeploymentAnswer, DeploymentJob, HoursJob, ProfiledWindow, Source
from monitor.profiling.arrow import category_texts
from monitor.profiling.joining import flat
from monitor.profiling.quality import binary, floats

HOUR = timedelta(hours=1)


def count_hours(job: HoursJob, source: Source) -> tuple[ProfiledWindow, ...]:
    """What each version did in each of the hours."""
    monitor = job.monitor
    columns = monitor.columns
    found = []
    for first, last in _runs(job.hours):
        span = Window(first, last + HOUR)
        types = source.types_in(columns.timestamp, span)
        names = [n for n in (columns.version, columns.timestamp, columns.score, columns.prediction, columns.latency, columns.status) if n in types and n]
        table = read_table(source, list(dict.fromkeys(names)), columns.timestamp, span) if types else None
        parts = _counted(monitor, table, types, first) if table is not None and columns.version in types else {}
        for hour in job.hours:
            if first <= hour <= last:
                versions = parts.get(hour, {})
                found.append(ProfiledWindow(Window(hour, hour + HOUR), round(sum(h.rows for h in versions.values())), to_bytes(versions)))
    return tuple(found)


def _runs(hours: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """The hours as first and last of each stretch without a gap, a day long at most."""
    runs: list[tuple[Any, Any]] = []
    for hour in sorted(hours):
        if runs and hour - runs[-1][1] == HOUR and hour - runs[-1][0] < timedelta(days=1):
            runs[-1] = (runs[-1][0], hour)
        else:
            runs.append((hour, hour))
    return runs


def _counted(monitor: MonitorConfig, table: pa.Table, types: Mapping[str, str], first: Any) -> dict[Any, dict[str, Hour]]:
    columns = monitor.columns
    start = int(first.timestamp() * 1e6)
    hours = (to_micros(flat(table, columns.timestamp), columns.timestamp).fill_null(0).to_numpy(zero_copy_only=False) - start) // 3_600_000_000
    values = flat(table, str(columns.version))
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    texts = ["" if t is None else t for t in category_texts(encoded.dictionary)] + [""]
    codes = encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    outputs = _Outputs(monitor, table, types)
    found: dict[Any, dict[str, Hour]] = {}
    for hour in np.unique(hours).tolist():
        for code in np.unique(codes[hours == hour]).tolist():
            rows = np.flatnonzero((hours == hour) & (codes == code))
            here = found.setdefault(first + hour * HOUR, {})
            made = outputs.of(rows)
            here[texts[code]] = here[texts[code]] + made if texts[code] in here else made
    return found


class _Outputs:
    """Errors, latencies and outputs of a table's rows."""

    def __init__(self, monitor: MonitorConfig, table: pa.Table, types: Mapping[str, str]) -> None:
        columns = monitor.columns

        def numbers(name: str | None) -> Any:
            return floats(flat(table, name), name) if name in types and name and types[name] in ("integer", "number") else None

        self._status, self._latency, self._score = numbers(columns.status), numbers(columns.latency), numbers(columns.score)
        self._value = self._positive = None
        if monitor.task == "regression":
            self._value = numbers(columns.prediction or columns.score)
            self._score = None
        elif monitor.task == "binary":
            if columns.prediction in types and columns.prediction:
                self._positive = binary(flat(table, columns.prediction), columns.prediction)
            elif self._score is not None:
                self._positive = np.where(np.isnan(self._score), -1, (self._score >= 0.5).astype(np.int64))

    def of(self, rows: Any) -> Hour:
        hour = Hour(rows=float(len(rows)))
        if self._status is not None:
            known = self._status[rows][np.isfinite(self._status[rows])]
            hour.statuses, hour.errors = float(len(known)), float((known >= 500).sum())
        if self._latency is not None:
            known = self._latency[rows]
            hour.latencies = Sketch.of(known[np.isfinite(known)])
        output = self._score if self._score is not None else self._value
        if output is not None:
            picked = output[rows]
            with np.errstate(invalid="ignore"):
                usable = (picked >= 0) & (picked <= 1) if self._score is not None else np.isfinite(picked)
            hour.outputs, hour.unusable = float(len(rows)), float((~usable).sum())
            if self._score is not None:
                bins = np.minimum((picked[usable] * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
                hour.scores = np.bincount(bins, minlength=SCORE_BINS).astype(np.float64)
                if self._positive is not None:
                    hour.chosen = np.bincount(bins[self._positive[rows][usable] == 1], minlength=SCORE_BINS).astype(np.float64)
            else:
                hour.values = Sketch.of(picked[usable])
        if self._positive is not None:
            known = self._positive[rows]
            hour.predicted, hour.positive = float((known >= 0).sum()), float((known == 1).sum())
        return hour


def judge_deployment(job: DeploymentJob) -> DeploymentAnswer:
    """The verdict on a version from the hours that were counted."""
    config = job.monitor.quality.deployment
    bounds = Bounds(config.min_rows, config.errors, config.latency, config.selection, config.scores, config.quality)
    hours = {item.window.start: from_bytes(item.profile) for item in job.hours}
    new = {at: found[job.version] for at, found in hours.items() if job.version in found and at >= job.first}
    if len(new) > 1 and job.previous in hours.get(job.first, {}):
        new.pop(job.first, None)  # the hour of the switch is neither's alone
    beside = [(mine, hours[at][job.previous]) for at, mine in new.items() if job.previous in hours[at]]
    days: dict[Any, list[Hour]] = {}
    served = {at.hour for at in new}
    for at, found in hours.items():
        if at < job.first and at.hour in served and job.previous in found:
            days.setdefault(at.date(), []).append(found[job.previous])
    calibrator = calibrator_of(job.calibration)
    watched = judge(list(new.values()), beside, [total(d) for d in days.values()], bounds, calibrator.chances if calibrator else None)
    return DeploymentAnswer(watched.verdict, as_json(watched) | {"hours": len(new), "days": len(days)}, max(new, default=None))
