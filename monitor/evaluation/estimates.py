"""Quality while labels are awaited: estimates from scores and what the reference taught of them."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from checks.core.binning import Binning
from checks.core.outputs import ALL, OutputCounts
from checks.core.profile import Profile
from checks.core.result import Statistic, Verdict
from checks.core.window import Window
from checks.evaluate import evaluate
from checks.performance import METRICS
from checks.performance.counts import QualityCounts, from_json, to_json
from checks.performance.methods.estimate import (
    BY_ORDER,
    CROWDED,
    ESTIMABLE,
    ESTIMABLE_ERRORS,
    LEAST_ROWS,
    Calibrator,
    expected_counts,
    expected_errors,
    learn,
)
from monitor.config.model import MonitorConfig
from monitor.config.quality import ESTIMATED
from monitor.evaluation.quality import Question, cuts_of, label_rows, metric_row, metrics_of, read_table, rule_of
from monitor.ports import RuleResult, Settings, Source
from monitor.profiling.quality import TRUE, Asked, count_labels

MOST_ROWS = 2_000_000
"""Reference rows from which calibration is learned at most: the newest windows."""

GROUPS = 10
"""Windows are kept in so many groups: two for each fold of the cross-validation."""

def wanted(monitor: MonitorConfig) -> bool:
    """Whether there is anything to estimate from."""
    return monitor.quality.estimate and monitor.labels is not None and monitor.columns.id is not None and (
        monitor.columns.score is not None or monitor.task == "regression"
    )


def learn_reference(
    monitor: MonitorConfig, settings: Settings, source: Source, labels: Source, windows: tuple[Window, ...], now: datetime,
    binning: Binning,
) -> tuple[bytes, float]:
    """The labelled counts of each reference window, for `estimated`, and the share of the rows that has labels."""
    columns = monitor.columns
    names = [n for n in (columns.id, columns.score, columns.prediction, columns.weight, columns.timestamp, columns.version) if n]
    found: list[QualityCounts] = []
    rows = labelled = 0
    seen = 0
    for window in reversed(windows):
        table = read_table(source, list(dict.fromkeys(names)), columns.timestamp, window)
        if table is None:
            continue
        truth, asked = label_rows(Question(monitor, settings, window, now, binning=binning), table, labels)
        joined = count_labels(table, truth, _bare(asked))
        found.append(joined.counted.whole)
        rows, labelled, seen = rows + joined.rows, labelled + joined.labelled, seen + table.num_rows
        if seen > MOST_ROWS:
            break
    groups = [sum(found[at::GROUPS], QualityCounts()) for at in range(min(GROUPS, len(found)))]
    body = json.dumps([to_json(counts) for counts in groups], separators=(",", ":"))
    return zlib.compress(body.encode(), 6), labelled / rows if rows else 0.0


def _bare(asked: Asked) -> Asked:
    return replace(asked, cuts=(), custom=())


def estimated(
    monitor: MonitorConfig, binning: Binning, profile: Profile, outputs: Mapping[str, OutputCounts], learned: bytes | None, why: str,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[RuleResult]]:
    """What the estimate rests on (or why there is none), its rows of the table, and the results of limits on it."""
    if learned is None:
        return {"reason": why}, [], _unknown(monitor, why)
    windows = _windows(learned)
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    if monitor.task == "regression":
        model = sum((c.by_bin for c in windows if c.by_bin.size), np.zeros((1, 1)))
        column = binning.of_role("prediction") or binning.of_role("score")
        expected = expected_errors(profile.columns[column.name], model) if column is not None and column.kind == "numeric" else None
        if expected is None:
            why = f"the reference has too few labelled predictions like these ({LEAST_ROWS} are needed)"
            if column is not None and column.kind != "numeric":
                why = "predictions take so few values that they are binned as categories; errors are learned by the size of a number"
            return {"reason": why}, [], _unknown(monitor, why)
        basis: dict[str, Any] = {"model": "errors by predicted value", "rows": round(float(model[:, 0].sum()))}
        rows, results = _rows(monitor, ALL, expected)
        return basis, rows, results
    calibrator = _calibrated(learned)
    if isinstance(calibrator, str):
        return {"reason": calibrator}, [], _unknown(monitor, calibrator)
    cuts = {cut.columns for cut in cuts_of(monitor)}
    positives = _positives(binning) if monitor.task == "binary" else None
    for name, counted in outputs.items():
        if name != ALL and tuple(part.split("=", 1)[0] for part in name.split(" & ")) not in cuts:
            continue
        expected = expected_counts(binning, counted, calibrator, positives, always=monitor.task == "multiclass")
        more = _rows(monitor, name, expected)
        rows += more[0]
        results += more[1]
    basis = {
        "model": "calibrated scores" if calibrator.isotonic else "scores as they are", "rows": round(calibrator.rows),
        "gain": float(f"{calibrator.gain:.3g}"),
    }
    return basis, rows, results


def calibrator_of(learned: bytes | None) -> Calibrator | None:
    """The calibration that the reference taught, where it did."""
    if learned is None:
        return None
    found = _calibrated(learned)
    return found if isinstance(found, Calibrator) else None


@functools.lru_cache(64)
def _windows(learned: bytes) -> tuple[QualityCounts, ...]:
    return tuple(from_json(body) for body in json.loads(zlib.decompress(learned)))


@functools.lru_cache(64)
def _calibrated(learned: bytes) -> Calibrator | str:
    return learn(_windows(learned))


def _positives(binning: Binning) -> list[bool] | None:
    """Which predicted classes are positive; None where no prediction is counted beside the score."""
    column = binning.of_role("prediction")
    if column is None or column.kind != "category":
        return None
    return [*(text.strip().lower() in TRUE for text in column.categories), False, False]


def _unknown(monitor: MonitorConfig, why: str) -> list[RuleResult]:
    return [
        RuleResult(f"quality.{key}[{ALL}]", "quality", "insufficient", slice=ALL, state="estimated", cleared=False, reason=f"{key}: {why}")
        for key in monitor.quality.limits if key.startswith(ESTIMATED)
    ]


def _rows(monitor: MonitorConfig, name: str, counts: QualityCounts) -> tuple[list[dict[str, Any]], list[RuleResult]]:
    known = {"regression": ESTIMABLE_ERRORS, "binary": ESTIMABLE, "multiclass": frozenset({"accuracy", "micro_f1"})}[monitor.task]
    crowded = counts.rows and float((counts.positive + counts.negative).max()) > CROWDED * counts.rows
    limits = {key.removeprefix(ESTIMATED): limit for key, limit in monitor.quality.limits.items() if key.startswith(ESTIMATED)}
    rows, results = [], []
    for kind in dict.fromkeys([*metrics_of(monitor)[0], *limits]):
        if kind not in known or monitor.task not in METRICS[kind].tasks:
            if kind in limits and name == ALL:
                why = f"{kind} cannot be estimated without labels"
                results.append(RuleResult(f"quality.{ESTIMATED}{kind}[{ALL}]", "quality", "error", slice=ALL, cleared=False, reason=why))
            continue
        value = Statistic.nothing() if crowded and kind in BY_ORDER else METRICS[kind](counts, monitor.quality.cost_of)
        enough = value.value is not None and counts.rows >= monitor.quality.min_rows
        verdict, reason, cleared = Verdict.PASS if enough else Verdict.INSUFFICIENT, f"{counts.rows} rows with a score" if not crowded else "the scores lie too close together to tell their order", True
        limit = limits.get(kind)
        if limit is not None and enough:
            checked = evaluate(value, limit.threshold(), 0)
            verdict, reason, cleared = checked.verdict, checked.reason, checked.cleared
        rows.append(metric_row(kind, name, value, counts.rows, verdict, estimated=True))
        if limit is not None and (name == ALL or verdict is not Verdict.INSUFFICIENT):
            rule = f"quality.{ESTIMATED}{kind}[{name}]"
            results.append(rule_of(rule, value, counts.rows, verdict, name, "estimated", cleared, f"estimated {kind} of {name}: {reason}"))
    return rows, results


__all__ = ["calibrator_of", "estimated", "learn_reference", "wanted"]
