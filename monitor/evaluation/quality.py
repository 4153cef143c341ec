"""The quality section of a window: predictions joined with labels, metrics by slice, limits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from checks.core.errors import SchemaError
from checks.core.result import Verdict, roll_up
from checks.core.window import Window
from checks.evaluate import evaluate
from checks.performance import DEFAULT_METRICS, METRICS
from checks.performance.counts import QualityCounts, from_bytes, to_bytes
from monitor.arrow_types import together
from monitor.config.model import MonitorConfig
from monitor.evaluation.sections import number
from monitor.ports import QualityAnswer, RuleResult, Settings, Source
from monitor.profiling.quality import Joined, count_labels

WAITING, PROVISIONAL, FINAL = "waiting", "provisional", "final"


def metrics_of(monitor: MonitorConfig) -> list[str]:
    """The metrics that are computed: those configured, or the task's own, that the columns allow."""
    wanted = monitor.quality.metrics or list(DEFAULT_METRICS[monitor.task])
    scored = monitor.columns.score is not None
    usable = [kind for kind in wanted if monitor.task in METRICS[kind].tasks and (scored or not METRICS[kind].needs_score)]
    return list(dict.fromkeys([*usable, *(k for k in monitor.quality.limits if monitor.task in METRICS[k].tasks)]))


def read_table(source: Source, columns: list[str], timestamp: str | None, window: Window | None) -> pa.Table | None:
    """The rows of a window as one table; None without rows."""
    batches = list(source.read(columns, timestamp, window))
    return together(batches)


def label_window(monitor: MonitorConfig, settings: Settings, window: Window, now: datetime) -> Window | None:
    """The label times that can matter for ``window``; None (all) when labels have no time."""
    if monitor.labels is None or settings.label_timestamp is None:
        return None
    end = min(window.end + monitor.labels.give_up, max(now, window.end))
    return Window(window.start, end)


def judge_quality(
    monitor: MonitorConfig, settings: Settings, predictions: Source, labels: Source, window: Window, now: datetime, key: bytes,
    private: frozenset[str],
) -> QualityAnswer:
    """Read what quality needs, join, count and judge."""
    columns = monitor.columns
    keys = monitor.quality.slice_keys
    names = [n for n in (columns.id, columns.score, columns.prediction) if n] + [n for group in keys for n in group]
    table = read_table(predictions, list(dict.fromkeys(names)), columns.timestamp, window)
    if table is None:
        return QualityAnswer({"verdict": "no_data", "state": WAITING, "labelled": 0.0, "metrics": []}, (), to_bytes({}), 0.0)
    wanted = [n for n in (settings.label_id, settings.label_column, settings.label_timestamp) if n]
    span = label_window(monitor, settings, window, now)
    truth = read_table(labels, wanted, settings.label_timestamp if span else None, span)
    if truth is None:
        truth = pa.table({name: pa.array([], table.schema.field(columns.id or "").type if name == settings.label_id else pa.bool_())
                          for name in wanted if name != settings.label_timestamp})
    label_time = settings.label_timestamp if settings.label_timestamp in truth.schema.names else None
    joined = count_labels(
        table, truth, task=monitor.task, id_column=columns.id or "", label_id=settings.label_id or "",
        label=settings.label_column or "", label_time=label_time, prediction=columns.prediction, score=columns.score,
        slices=keys, private=private, key=key,
    )
    return section_of(monitor, joined, window, now)


def stored_quality(
    monitor: MonitorConfig, counts: bytes, labelled: float, duplicates: int, window: Window, now: datetime,
) -> QualityAnswer:
    """Judge stored counts again; slices that are not configured any more are left out."""
    wanted = {tuple(group) for group in monitor.quality.slice_keys}
    kept = {
        name: found for name, found in from_bytes(counts).items()
        if name == "ALL" or tuple(part.split("=", 1)[0] for part in name.split(" & ")) in wanted
    }
    rows = 10**9
    return section_of(monitor, Joined(kept, rows, round(labelled * rows), duplicates, 0, 0), window, now)


def state_of(monitor: MonitorConfig, share: float, window: Window, now: datetime) -> str:
    """waiting without labels, final when complete or given up on, provisional between."""
    assert monitor.labels is not None
    if share >= monitor.labels.complete or now >= window.end + monitor.labels.give_up:
        return FINAL if share > 0 else WAITING
    return PROVISIONAL if share > 0 else WAITING


def section_of(monitor: MonitorConfig, joined: Joined, window: Window, now: datetime) -> QualityAnswer:
    """Metrics of every slice with their verdicts, from counts."""
    state = state_of(monitor, joined.share, window, now)
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    verdicts: list[Verdict] = []
    for name, counts in joined.slices.items():
        for kind in metrics_of(monitor):
            row, result = _metric(monitor, kind, name, counts, state)
            rows.append(row)
            verdict = Verdict(row["verdict"])
            if result is not None:
                results.append(result)
            if name == "ALL" or verdict.breach:
                verdicts.append(verdict)
    if state == WAITING:
        verdicts = [Verdict.INSUFFICIENT]
    section = {
        "verdict": str(roll_up(verdicts)), "state": state, "labelled": round(joined.share, 4), "metrics": rows,
        **_means(joined.slices["ALL"]), **({"notes": list(joined.notes)} if joined.notes else {}),
    }
    return QualityAnswer(section, tuple(results), to_bytes(joined.slices), joined.share, joined.duplicate_ids)


def _means(counts: QualityCounts) -> dict[str, float | None]:
    if not counts.scored:
        return {}
    return {"mean_score": number(counts.score_sum / counts.scored), "mean_label": number(counts.label_sum / counts.scored)}


def _metric(
    monitor: MonitorConfig, kind: str, name: str, counts: QualityCounts, state: str,
) -> tuple[dict[str, Any], RuleResult | None]:
    value = METRICS[kind](counts)
    limit = monitor.quality.limits.get(kind)
    least = monitor.quality.min_rows
    reason, cleared = "", True
    if state == WAITING:
        verdict, reason = Verdict.INSUFFICIENT, "waiting for labels"
    elif value.n == 0 or value.value is None:
        verdict, reason = Verdict.INSUFFICIENT, f"{counts.rows} labelled rows are too few of one label to say"
    elif limit is None:
        verdict = Verdict.PASS if counts.rows >= least else Verdict.INSUFFICIENT
    else:
        checked = evaluate(value, limit.threshold(), 0)
        verdict, reason, cleared = checked.verdict, checked.reason, checked.cleared
        if counts.rows < least:
            verdict, reason = Verdict.INSUFFICIENT, f"{counts.rows} labelled rows; {least} are needed"
        elif state == PROVISIONAL:
            verdict, reason = Verdict.INSUFFICIENT, f"provisional: {checked.reason}"
    row = {
        "metric": kind, "slice": name, "value": number(value.value), "low": number(value.low), "high": number(value.high),
        "n": value.n or counts.rows, "verdict": str(verdict), "estimated": False,
    }
    if limit is None or (name != "ALL" and verdict is Verdict.INSUFFICIENT):
        return row, None
    result = RuleResult(
        f"quality.{kind}[{name}]", "quality", str(verdict), number(value.value), number(value.low), number(value.high),
        value.n or counts.rows, slice=name, state=state, cleared=cleared, reason=f"{kind} of {name}: {reason}",
    )
    return row, result


def check_columns(monitor: MonitorConfig, types: dict[str, str]) -> None:
    """`SchemaError` naming the first column that quality needs and the window lacks."""
    columns = monitor.columns
    needed = {"columns.id": columns.id, "columns.score": columns.score, "columns.prediction": columns.prediction}
    for key, name in needed.items():
        if name is not None and name not in types:
            raise SchemaError(f"{key}: the window has no column {name!r}")
    for group in monitor.quality.slice_keys:
        for name in group:
            if name not in types:
                raise SchemaError(f"quality.slices: the window has no column {name!r}")
