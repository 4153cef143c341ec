"""Business figures from tables of their own, beside quality: one value a window, with its limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from checks.core.errors import DriftdError
from checks.core.result import Statistic, Verdict
from checks.core.window import Window
from checks.evaluate import evaluate
from checks.performance._interval import mean
from monitor.config.model import MonitorConfig
from monitor.config.quality import Kpi
from monitor.evaluation.sections import number
from monitor.ports import RuleResult, Source
from monitor.profiling.joining import flat
from monitor.profiling.masks import NOT_COUNTABLE
from monitor.profiling.quality import floats


def judge_kpis(monitor: MonitorConfig, open_source: Callable[[Any], Source], window: Window) -> tuple[dict[str, Any], list[RuleResult]]:
    """Every configured figure of the window; one whose table cannot be read is an error of its own."""
    section: dict[str, Any] = {}
    results: list[RuleResult] = []
    for name, kpi in monitor.kpis.items():
        rule = f"quality.kpi[{name}]"
        try:
            value = measure(kpi, open_source(kpi.source), window)
        except (DriftdError, *NOT_COUNTABLE) as error:
            section[name] = {"value": None, "n": 0, "verdict": "error", "reason": str(error)}
            results.append(RuleResult(rule, "quality", "error", cleared=False, reason=f"{name}: {error}"))
            continue
        verdict, reason, cleared = (Verdict.NO_DATA, f"{name}: the table has no rows of this window", False) if not value.n else (Verdict.PASS, "", True)
        if value.n and kpi.limits is not None:
            checked = evaluate(value, kpi.limits.threshold(), 0)
            verdict, cleared, reason = checked.verdict, checked.cleared, f"{name}: {checked.reason}"
        section[name] = {
            "value": number(value.value), "low": number(value.low), "high": number(value.high), "n": value.n, "verdict": str(verdict),
            **({"reason": reason.removeprefix(f"{name}: ")} if reason and verdict is not Verdict.PASS else {}),
        }
        results.append(RuleResult(
            rule, "quality", str(verdict), number(value.value), number(value.low), number(value.high), value.n, slice="ALL", cleared=cleared,
            reason=reason,
        ))
    return section, results


def measure(kpi: Kpi, source: Source, window: Window) -> Statistic:
    """The figure of a window. A sum or a count is what it is, without an interval; a mean has one of its rows."""
    total = square = 0.0
    rows = 0
    columns = [kpi.value] if kpi.value else [kpi.timestamp]
    for batch in source.read(columns, kpi.timestamp, window):
        if kpi.value is None:
            rows += batch.num_rows
            continue
        import pyarrow as pa

        values = floats(flat(pa.Table.from_batches([batch]), kpi.value), kpi.value)
        values = values[np.isfinite(values)]
        rows += len(values)
        total += float(values.sum())
        square += float((values**2).sum())
    if not rows:
        return Statistic.nothing()
    if kpi.aggregate == "mean":
        found = mean(total, square, rows)
        if rows < 2 or not math.isfinite(found.low or 0.0):
            return Statistic.exact(total / rows, rows)
        return found
    return Statistic.exact(float(rows) if kpi.aggregate == "count" else total, rows)


__all__ = ["judge_kpis", "measure"]
