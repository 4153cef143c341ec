"""The quality section of a window: predictions joined with labels, metrics by slice, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from checks.core.binning import Binning
from checks.core.errors import SchemaError
from checks.core.expression import columns as columns_of
from checks.core.expression import parse
from checks.core.outputs import ALL
from checks.core.result import Statistic, Verdict, roll_up
from checks.core.window import Window
from checks.evaluate import evaluate
from checks.performance import DEFAULT_METRICS, METRICS
from checks.performance.counts import QualityCounts
from checks.performance.methods.counted import Counted, Waiting, from_bytes, to_bytes
from checks.performance.methods.provisional import certain, reachable, smallest_change
from monitor.arrow_types import together
from monitor.config.model import MonitorConfig
from monitor.config.quality import ESTIMATED, Cut, Slice
from monitor.config.types import ThresholdConfig
from monitor.evaluation.fairness import judge_fairness
from monitor.evaluation.sections import number
from monitor.ports import QualityAnswer, RuleResult, Settings, Source
from monitor.profiling.cuts import cut_columns
from monitor.profiling.quality import Asked, Joined, count_labels

WAITING, PROVISIONAL, FINAL = "waiting", "provisional", "final"
ROW = "(row)"
UNLABELLED = "unlabelled"
"""The state of a monitor without labels: only what needs none is judged."""


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that counting a window's labels needs beside the sources."""

    monitor: MonitorConfig
    settings: Settings
    window: Window
    now: datetime
    key: bytes = b""
    private: frozenset[str] = frozenset()
    binning: Binning | None = None


def metrics_of(monitor: MonitorConfig) -> tuple[list[str], list[str]]:
    """The metrics that are computed: those configured, or the task's own, and those with limits; and why others are not."""
    asked = [*(monitor.quality.metrics or DEFAULT_METRICS[monitor.task])]
    own = {item.name for item in monitor.quality.custom}
    if monitor.quality.costs and monitor.task != "regression":
        asked.append("business_value")
    asked += [k.partition("[")[0] for k in monitor.quality.limits if not k.startswith(ESTIMATED) and k not in own]
    kept, notes = [], []
    for kind in dict.fromkeys(asked):
        if monitor.task not in METRICS[kind].tasks:
            notes.append(f"{kind} is not defined for a {monitor.task} task")
        elif METRICS[kind].needs_score and monitor.columns.score is None:
            if monitor.quality.metrics or kind in monitor.quality.limits:
                notes.append(f"{kind} needs columns.score")
        else:
            kept.append(kind)
    return kept, notes


def cuts_of(monitor: MonitorConfig) -> list[Cut]:
    """The slices that are configured, and the groups that fairness compares."""
    found = monitor.quality.cuts
    fair = monitor.quality.fairness
    if fair is not None and all(cut.columns != (fair.column,) for cut in found):
        found.append(Cut(parts=(Slice(column=fair.column),)))
    return found


def asked_of(question: Question, label_time: str | None) -> Asked:
    """What is to be counted of a window."""
    monitor, settings, columns = question.monitor, question.settings, question.monitor.columns
    return Asked(
        monitor.task, columns.id or "", settings.label_id or "", settings.label_column or "", label_time, columns.prediction,
        columns.score, columns.weight, columns.version, columns.timestamp, cuts_of(monitor),
        [(item.name, parse(item.expr)) for item in monitor.quality.custom], frozenset(monitor.quality.shadow), question.private,
        question.key, question.binning, question.window.end, max(question.now, question.window.end),
    )


def columns_needed(monitor: MonitorConfig, available: Mapping[str, Any]) -> list[str]:
    """The columns of the log that quality reads, of those that are there."""
    columns = monitor.columns
    names = [columns.id, columns.score, columns.prediction, columns.weight, columns.version, columns.timestamp]
    names += cut_columns(cuts_of(monitor))
    for item in monitor.quality.custom:
        names += sorted(columns_of(parse(item.expr)))
    return [n for n in dict.fromkeys(names) if n and n in available]


def read_table(
    source: Source, columns: list[str], timestamp: str | None, window: Window | None, dictionaries: frozenset[str] = frozenset(),
) -> pa.Table | None:
    """The rows of a window as one table; None without rows."""
    batches = list(source.read(columns, timestamp, window, dictionaries))
    return together(batches)


def label_window(monitor: MonitorConfig, settings: Settings, window: Window) -> Window | None:
    """The label times that can matter for ``window``; None (all) when labels have no time.

    A day before it for labels that are dated roughly, and to the end of patience: those after now are counted as future ones.
    """
    if monitor.labels is None or settings.label_timestamp is None:
        return None
    from datetime import timedelta

    return Window(window.start - timedelta(days=1), window.end + monitor.labels.give_up)


def judge_quality(question: Question, predictions: Source, labels: Source | None, types: Mapping[str, str]) -> QualityAnswer:
    """Read what quality needs, join, count and judge."""
    joined = join(question, predictions, labels, types)
    if joined is None:
        return nothing(question.monitor)
    return section_of(question.monitor, joined, question.window, question.now, question.settings.label_column)


def nothing(monitor: MonitorConfig) -> QualityAnswer:
    """The answer for a window without rows."""
    state = WAITING if monitor.labels is not None else UNLABELLED
    return QualityAnswer({"verdict": "no_data", "state": state, "labelled": 0.0, "metrics": []}, (), to_bytes(Counted()), 0.0)


def join(question: Question, predictions: Source, labels: Source | None, types: Mapping[str, str]) -> Joined | None:
    """The counts of a window; None without rows."""
    monitor, window, columns = question.monitor, question.window, question.monitor.columns
    dictionaries = frozenset(n for n in cut_columns(cuts_of(monitor)) if types.get(n) == "string")
    if columns.version:
        dictionaries |= {columns.version}
    table = read_table(predictions, columns_needed(monitor, types), columns.timestamp, window, dictionaries)
    if table is None:
        return None
    if labels is None:
        table = table.append_column(ROW, pa.array(range(table.num_rows)))
    return count_labels(table, *label_rows(question, table, labels))


def label_rows(question: Question, table: pa.Table, labels: Source | None) -> tuple[pa.Table, Asked]:
    """The labels that can be of a window's rows, and what is asked of both."""
    settings, columns = question.settings, question.monitor.columns
    if labels is None:
        none = pa.table({"id": pa.array([], pa.int64()), "label": pa.array([], pa.bool_())})
        asked = asked_of(question, None)
        return none, _plain(asked, ROW)
    wanted = [n for n in (settings.label_id, settings.label_column, settings.label_timestamp) if n]
    span = label_window(question.monitor, settings, question.window)
    truth = read_table(labels, wanted, settings.label_timestamp if span else None, span)
    if truth is None:
        kind = table.schema.field(columns.id or "").type
        truth = pa.table({
            name: pa.array([], kind if name == settings.label_id else pa.bool_()) for name in wanted if name != settings.label_timestamp
        })
    label_time = settings.label_timestamp if settings.label_timestamp in truth.schema.names else None
    return truth, asked_of(question, label_time)


def _plain(asked: Asked, identifier: str) -> Asked:
    from dataclasses import replace

    return replace(asked, task="none", id=identifier, label_id="id", label="label", score=None, prediction=None)


def stored_quality(
    monitor: MonitorConfig, counts: bytes, labelled: float, duplicates: int, window: Window, now: datetime, label: str | None,
) -> QualityAnswer:
    """Judge stored counts again; slices and metrics that are not configured any more are left out."""
    counted = from_bytes(counts)
    wanted = {ALL, *(cut.title for cut in cuts_of(monitor))}
    kept = {name: found for name, found in counted.slices.items() if counted.cuts.get(name, name) in wanted}
    counted.slices = kept
    counted.custom = {name: found for name, found in counted.custom.items() if counted.cuts.get(name, name) in wanted}
    counted.failed = {title: why for title, why in counted.failed.items() if title in wanted}
    rows = counted.rows or 10**9
    return section_of(monitor, Joined(counted, rows, round(labelled * rows), duplicates), window, now, label)


def asked_for(monitor: MonitorConfig) -> dict[str, Any]:
    """What is counted for quality beside whole columns, to know later whether stored counts still answer."""
    return {"cuts": [cut.title for cut in cuts_of(monitor)], "custom": {item.name: item.expr for item in monitor.quality.custom}}


def state_of(monitor: MonitorConfig, share: float, window: Window, now: datetime) -> str:
    """waiting without labels, final when complete or given up on, provisional between."""
    if monitor.labels is None:
        return UNLABELLED
    if share >= monitor.labels.complete or now >= window.end + monitor.labels.give_up:
        return FINAL if share > 0 else WAITING
    return PROVISIONAL if share > 0 else WAITING


def section_of(monitor: MonitorConfig, joined: Joined, window: Window, now: datetime, label: str | None = None) -> QualityAnswer:
    """Metrics of every slice with their verdicts, from counts; ``label`` is the name of the label's column."""
    state = state_of(monitor, joined.share, window, now)
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    kinds, notes = metrics_of(monitor)
    counted = joined.counted
    for name, counts in counted.slices.items() if state != UNLABELLED else ():
        for kind, shown, part in expanded(monitor, kinds, counts):
            row, result = _metric(monitor, kind, shown, name, part, counted.waiting.get(name, Waiting()), state)
            rows.append(row)
            results += [result] if result is not None else []
    for judged in (
        _custom(monitor, joined, state, label), _missing(monitor, joined), _absent(monitor, counted, state), judge_fairness(monitor, counted, state),
    ):
        rows += judged[0]
        results += judged[1]
    own = {item.name for item in monitor.quality.custom}
    counting = [r for r in rows if r["metric"] not in own or r["verdict"] != "insufficient"]
    verdicts = [Verdict(r["verdict"]) for r in counting if r["slice"] == ALL or Verdict(r["verdict"]).breach or r["verdict"] == "error"]
    if state == WAITING:
        verdicts = [v for v in verdicts if v.breach or v is Verdict.ERROR] or [Verdict.INSUFFICIENT]
    found = [*joined.notes, *notes, *(f"fairness: {r['reason']}" for r in rows if r["metric"] == "fairness")]
    section = {
        "verdict": str(roll_up(verdicts)), "state": state, "labelled": round(joined.share, 4), "metrics": rows,
        **_means(counted.whole), **({"notes": found} if found else {}),
        **({"versions": versions_of(monitor, kinds, counted)} if counted.versions else {}),
    }
    return QualityAnswer(section, tuple(results), to_bytes(counted), joined.share, joined.duplicate_ids)


def expanded(monitor: MonitorConfig, kinds: list[str], counts: QualityCounts) -> Iterator[tuple[str, str, QualityCounts]]:
    """Each metric with the name it is shown under and its counts: of a multiclass task some have a value for each class."""
    for kind in kinds:
        if monitor.task == "multiclass" and METRICS[kind].per_class:
            for name in counts.classes:
                yield kind, f"{kind}[{name}]", counts.one_against_rest(name)
        else:
            yield kind, kind, counts


def limit_of(monitor: MonitorConfig, kind: str, shown: str) -> ThresholdConfig | None:
    """The limit on a metric: on its class, or on all."""
    return monitor.quality.limits.get(shown, monitor.quality.limits.get(kind))


def _means(counts: QualityCounts) -> dict[str, float | None]:
    if not counts.scored:
        return {}
    return {"mean_score": number(counts.score_sum / counts.scored), "mean_label": number(counts.label_sum / counts.scored)}


def metric_row(shown: str, name: str, value: Statistic, rows: int, verdict: Verdict, *, estimated: bool = False) -> dict[str, Any]:
    """One line of the section's table."""
    row = {
        "metric": shown, "slice": name, "value": number(value.value), "low": number(value.low), "high": number(value.high),
        "n": value.n or rows, "verdict": str(verdict), "estimated": estimated,
    }
    change = smallest_change(value)
    if verdict is Verdict.INSUFFICIENT and change is not None:
        row["detectable"] = number(change)
    return row


def _metric(
    monitor: MonitorConfig, kind: str, shown: str, name: str, counts: QualityCounts, waiting: Waiting, state: str,
) -> tuple[dict[str, Any], RuleResult | None]:
    costs = monitor.quality.cost_of
    value = METRICS[kind](counts, costs)
    limit = limit_of(monitor, kind, shown)
    least = monitor.quality.min_rows
    reason, cleared = "", True
    if state == WAITING:
        verdict, reason = Verdict.INSUFFICIENT, "waiting for labels"
    elif value.n == 0 or value.value is None:
        verdict, reason = Verdict.INSUFFICIENT, f"{counts.rows} labelled rows are too few of one label to say"
    elif counts.rows < least:
        verdict, reason = Verdict.INSUFFICIENT, f"{counts.rows} labelled rows; {least} are needed"
    elif limit is None:
        verdict = Verdict.PASS
    else:
        checked = evaluate(value, limit.threshold(), 0)
        verdict, reason, cleared = checked.verdict, checked.reason, checked.cleared
        if state == PROVISIONAL:
            ends = reachable(kind, counts, waiting, costs) if verdict.breach and "[" not in shown else None
            sure = certain(limit.threshold(), ends)
            verdict, cleared = sure or Verdict.INSUFFICIENT, False
            reason = f"provisional: {reason}" + (f", whatever the labels of the other {waiting.rows:,.0f} rows say" if sure else "")
    row = metric_row(shown, name, value, counts.rows, verdict)
    if limit is None or (name != ALL and verdict is Verdict.INSUFFICIENT):
        return row, None
    if verdict is Verdict.INSUFFICIENT and row.get("detectable") is not None:
        reason += f"; a change of {row['detectable']:.3g} would have shown"
    return row, rule_of(f"quality.{shown}[{name}]", value, counts.rows, verdict, name, state, cleared, f"{shown} of {name}: {reason}")


def rule_of(
    rule: str, value: Statistic, rows: int, verdict: Verdict, name: str, state: str, cleared: bool, reason: str,
) -> RuleResult:
    """The result of a limit on a metric."""
    return RuleResult(
        rule, "quality", str(verdict), number(value.value), number(value.low), number(value.high), value.n or rows, slice=name,
        state=state, cleared=cleared, reason=reason,
    )


def _custom(monitor: MonitorConfig, joined: Joined, state: str, label: str | None) -> tuple[list[dict[str, Any]], list[RuleResult]]:
    """The owner's metrics of every slice; they need no labels, unless their expression names one."""
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    for item in monitor.quality.custom:
        limit, broken = monitor.quality.limits.get(item.name), joined.counted.broken.get(item.name)
        needs_label = label is not None and label in columns_of(parse(item.expr)) and state in (WAITING, PROVISIONAL)
        if broken is None and any(kinds[item.name].statistic(item.aggregate).unit for kinds in joined.counted.custom.values() if item.name in kinds):
            broken = "a share is of rows for which a condition is true: its values must be 0 or 1"
        if broken is not None:
            rows.append(metric_row(item.name, ALL, Statistic.nothing(), 0, Verdict.ERROR) | {"reason": broken})
            reason = f"{item.name}: {broken}"
            results.append(rule_of(f"quality.{item.name}[{ALL}]", Statistic.nothing(), 0, Verdict.ERROR, ALL, "", False, reason))
            continue
        for name, kinds in joined.counted.custom.items():
            if item.name not in kinds:
                continue
            value = kinds[item.name].statistic(item.aggregate)
            counted = round(kinds[item.name].rows)
            verdict = Verdict.PASS if value.n >= monitor.quality.min_rows else Verdict.INSUFFICIENT
            reason, cleared = f"{value.n} rows with a value; {monitor.quality.min_rows} are needed", True
            if verdict is Verdict.PASS and limit is not None:
                checked = evaluate(value, limit.threshold(), 0)
                verdict, reason, cleared = checked.verdict, checked.reason, checked.cleared
            if needs_label:
                verdict, reason, cleared = Verdict.INSUFFICIENT, f"it needs the label, and labels are {state}: {reason}", False
            row = metric_row(item.name, name, value, counted, verdict) | {"custom": True}
            if kinds[item.name].missing:
                row["missing"] = round(kinds[item.name].missing)
            if verdict is Verdict.INSUFFICIENT and name == ALL:
                row["reason"] = reason
            rows.append(row)
            if limit is not None and (name == ALL or verdict is not Verdict.INSUFFICIENT):
                results.append(rule_of(f"quality.{item.name}[{name}]", value, counted, verdict, name, "", cleared, f"{item.name} of {name}: {reason}"))
    return rows, results


def _missing(monitor: MonitorConfig, joined: Joined) -> tuple[list[dict[str, Any]], list[RuleResult]]:
    """Slices that could not be cut: their verdict is error, with the reason."""
    rows, results = [], []
    for title, why in joined.counted.failed.items():
        rows.append(metric_row("rows", title, Statistic.nothing(), 0, Verdict.ERROR) | {"reason": why})
        reason = f"slice {title}: {why}"
        results.append(rule_of(f"quality.slices[{title.partition(':')[0]:.200}]", Statistic.nothing(), 0, Verdict.ERROR, title, "", False, reason))
    return rows, results


def _absent(monitor: MonitorConfig, counted: Counted, state: str) -> tuple[list[dict[str, Any]], list[RuleResult]]:
    """Limits on classes that no label and no prediction of the window has: it cannot be known."""
    results = []
    for key in monitor.quality.limits if state not in (WAITING, UNLABELLED) else ():
        kind, _, rest = key.partition("[")
        name = rest.removesuffix("]")
        if rest and not key.startswith(ESTIMATED) and name not in counted.whole.classes:
            why = f"{key}: no row of the window has the class {name!r}" if monitor.task == "multiclass" else f"{key}: only a multiclass task has classes"
            results.append(rule_of(f"quality.{kind}[{name}][{ALL}]", Statistic.nothing(), 0, Verdict.INSUFFICIENT, ALL, state, False, why))
    return [], results


def versions_of(monitor: MonitorConfig, kinds: list[str], counted: Counted) -> list[dict[str, Any]]:
    """The metrics of each model version, the one with the most rows first."""
    found = []
    for version, counts in sorted(counted.versions.items(), key=lambda item: -item[1].rows):
        values = {}
        for kind in kinds:
            if monitor.task == "multiclass" and METRICS[kind].per_class:
                continue
            value = METRICS[kind](counts, monitor.quality.cost_of)
            values[kind] = [number(value.value), number(value.low), number(value.high)]
        found.append({
            "version": version, "rows": counts.rows, "shadow": version in monitor.quality.shadow, "metrics": values,
        })
    return found


def check_columns(monitor: MonitorConfig, types: dict[str, str]) -> None:
    """`SchemaError` naming the first column that quality needs and the window lacks; of slices each says so for itself."""
    columns = monitor.columns
    needed = {
        "columns.id": columns.id, "columns.score": columns.score, "columns.prediction": columns.prediction, "columns.weight": columns.weight,
    }
    for key, name in needed.items():
        if name is not None and name not in types:
            raise SchemaError(f"{key}: the window has no column {name!r}")
