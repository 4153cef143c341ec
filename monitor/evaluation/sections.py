"""The sections of a window's result: contract, data, drift, service. Pure: from profiles to plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from checks.calibration.names import ROWS
from checks.calibration.structural import StructuralBreak
from checks.core.interval import Z95
from checks.core.profile import Binning, ColumnProfile, Profile
from checks.core.result import Statistic, Verdict, finite, roll_up
from checks.core.window import Window
from checks.evaluate import evaluate
from checks.statistics import SHOWN, STATISTICS
from monitor.config.model import MonitorConfig
from monitor.config.types import ThresholdConfig
from monitor.ports import RuleResult
from monitor.profiling.plan import ERRORS

Section = tuple[dict[str, Any], list[RuleResult]]
NO_ROWS = "the window has no rows"
LEAST_EARLIER, LEAST_ALIKE = 5, 3


def number(value: float | None) -> float | None:
    """A finite number with six significant digits, or None."""
    value = finite(value)
    return None if value is None else float(f"{value:.6g}")


def data_section(
    profile: Profile, breaks: Sequence[StructuralBreak], unreadable: Mapping[str, str], reported: Mapping[str, str],
    duplicates: int | None,
) -> Section:
    """Structural breaks; one on a column whose contract violation says the same is inhibited by it, not told twice.

    ``duplicates`` are prediction ids that occur again, None where ids were not read, as there are no labels to join.
    """
    findings: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    found = {b.column: (b.kind, b.sentence) for b in breaks}
    found.update({name: ("unreadable", f"{name}: {why}") for name, why in unreadable.items()})
    volume = found.pop(ROWS, None)
    if volume is not None:
        findings.append({"column": None, "kind": volume[0], "verdict": "fail", "sentence": volume[1]})
    if profile.rows:
        reason = volume[1] if volume else ""
        results.append(RuleResult(f"data.{ROWS}", "data", "fail" if volume else "pass", float(profile.rows), n=profile.rows, reason=reason))
    for column in profile.binning.columns:
        rule = f"data.{column.name}"
        if column.name not in found:
            verdict = Verdict.PASS if profile.rows else Verdict.NO_DATA
            results.append(RuleResult(rule, "data", str(verdict), n=profile.rows, column=column.name))
            continue
        kind, sentence = found[column.name]
        by = reported.get(column.name)
        verdict = Verdict.INHIBITED if by else Verdict.FAIL
        findings.append({
            "column": column.name, "kind": kind, "verdict": str(verdict), "sentence": sentence,
            **({"reported_by": by} if by else {}),
        })
        results.append(RuleResult(rule, "data", str(verdict), n=profile.rows, column=column.name, reason=sentence))
    share = (duplicates or 0) / profile.rows if profile.rows else 0.0
    if duplicates:
        verdict = Verdict.WARN if share > 0.01 else Verdict.PASS
        sentence = f"{duplicates} of {profile.rows} prediction ids are repeated"
        findings.append({"column": None, "kind": "duplicate_ids", "verdict": str(verdict), "sentence": sentence})
        results.append(RuleResult("data.duplicate_ids", "data", str(verdict), share, n=profile.rows, reason=sentence))
    elif profile.rows and duplicates is not None:
        results.append(RuleResult("data.duplicate_ids", "data", "pass", 0.0, n=profile.rows))
    verdicts = [Verdict(f["verdict"]) for f in findings if f["verdict"] != "inhibited"]
    if not profile.rows:
        verdicts = [Verdict.NO_DATA]
    return {"verdict": str(roll_up(verdicts)), "findings": findings}, results


def statistics_of(
    monitor: MonitorConfig, binning: Binning, profile: Profile, reference: Profile, unreadable: Mapping[str, str],
) -> Section:
    """Every statistic of every column against the reference, and the owner's own limits on them."""
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    for column in binning.columns:
        if column.name in unreadable or column.role in ("latency", "status"):
            continue
        for kind, plugin in STATISTICS.items():
            limit = monitor.drift.limit(kind, column.name)
            if column.kind not in plugin.applies or not (limit or kind in (monitor.drift.statistics or SHOWN)):
                continue
            value = plugin(column, reference.columns[column.name], profile.columns[column.name])
            rows.append({
                "column": column.name, "kind": kind, "value": number(value.value), "low": number(value.low),
                "high": number(value.high), "n": value.n,
                **({"p_value": number(value.p_value)} if value.p_value is not None else {}),
            })
            if limit is not None:
                results.append(_limit(monitor, limit, kind, column.name, value))
    return {"statistics": rows}, results


def _limit(monitor: MonitorConfig, limit: ThresholdConfig, kind: str, column: str, value: Statistic) -> RuleResult:
    checked = evaluate(value, limit.threshold(), monitor.drift.min_rows)
    return RuleResult(
        f"drift.{kind}[{column}]", "drift", str(checked.verdict), number(value.value), number(value.low), number(value.high),
        value.n, column, state="limit", cleared=checked.cleared, reason=f"{kind} of {column}: {checked.reason}",
    )


def inhibited(parts: dict[str, Any], results: Sequence[RuleResult]) -> tuple[dict[str, Any], list[RuleResult]]:
    """An empty window breaks no rule but its own: every breach in it is inhibited, and still shown."""
    own = "quality.kpi["  # business figures have rows of their own
    held = [replace(r, verdict="inhibited") if Verdict(r.verdict).breach and not r.rule.startswith(own) else r for r in results]
    kept = {"quality"} if any(Verdict(r.verdict).breach for r in held) else set()
    shown = {
        key: {**part, "verdict": "inhibited"} if part is not None and Verdict(part["verdict"]).breach and key not in kept else part
        for key, part in parts.items()
    }
    return shown, held


def latency_quantile(column: ColumnProfile, edges: Sequence[float], share: float) -> Statistic:
    """A quantile of a profiled column with the ends of its bin as interval; infinite where it falls among infinities."""
    rows = column.filled + column.other
    if not rows:
        return Statistic.nothing("ms")
    target, passed = share * rows, 0
    if target > column.filled:
        return Statistic(math.inf, math.inf, math.inf, rows, "ms")
    for index, count in enumerate(column.counts.tolist()):
        if passed + count >= target and count:
            low = max(edges[index - 1] if index else column.minimum, column.minimum)
            high = min(edges[index] if index < len(edges) else column.maximum, column.maximum)
            value = low + (high - low) * (target - passed) / count
            return Statistic(value, low, high, rows, "ms")
        passed += count
    return Statistic.exact(column.maximum, rows, "ms")


def traffic(rows: int, start: datetime, earlier: Sequence[tuple[datetime, int]], zone: str) -> tuple[Statistic, float | None]:
    """Rows against the usual for that hour of the week, of the day where fewer than three are known, else of any time.

    The interval is that of counting; the usual number is a median. Nothing with fewer than five earlier windows.
    """
    known = [(at, count) for at, count in earlier if count]
    if len(known) < LEAST_EARLIER:
        return Statistic.nothing(), None
    local = start.astimezone(ZoneInfo(zone))
    alike: list[int] = []
    for place in (lambda t: (t.weekday(), t.hour), lambda t: t.hour, lambda t: 0):
        alike = [count for at, count in known if place(at.astimezone(ZoneInfo(zone))) == place(local)]
        if len(alike) >= LEAST_ALIKE:
            break
    usual = float(median(alike))
    half = Z95 * math.sqrt(rows)
    return Statistic(rows / usual, max(rows - half, 0.0) / usual, (rows + half) / usual, max(rows, 1)), usual


def service_section(
    monitor: MonitorConfig, profile: Profile, baseline: Sequence[Profile], window: Window | None = None, starts: Sequence[datetime] = (),
) -> Section:
    """Latency, error share, traffic and the usual number of rows; an empty window is said by a rule of its own.

    ``starts`` are those of the ``baseline`` windows.
    """
    section: dict[str, Any] = {"verdict": "pass"}
    empty = not profile.rows
    results = [
        RuleResult(
            "service.no_data", "service", "warn" if empty else "pass", float(profile.rows), n=profile.rows,
            reason=NO_ROWS if empty else "",
        )
    ]
    measured: dict[str, Statistic] = {}
    name = monitor.columns.latency
    if name and name in profile.columns and profile.binning[name].kind == "numeric":
        edges = profile.binning[name].edges
        for text, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            measured[f"latency_{text}"] = latency_quantile(profile.columns[name], edges, share)
        section["latency_ms"] = {text: number(measured[f"latency_{text}"].value) for text in ("p50", "p95", "p99")}
    if ERRORS in profile.rules:
        from checks.performance._interval import proportion

        measured["error_share"] = proportion(profile.rules[ERRORS], profile.rows)
        section["error_share"] = number(measured["error_share"].value)
    if window is not None and profile.rows:
        earlier = [(start, p.rows) for start, p in zip(starts, baseline, strict=True)]
        found, usual = traffic(profile.rows, window.start, earlier, monitor.window.timezone)
        if usual is not None:
            measured["traffic"] = found
            section["traffic"] = {"against_usual": number(found.value), "usual_rows": number(usual)}
    for key, limit in monitor.service.limits.items():
        if key not in measured:
            continue
        checked = evaluate(measured[key], limit.threshold(), 0 if key == "traffic" else monitor.drift.min_rows)
        value = measured[key]
        results.append(
            RuleResult(
                f"service.{key}", "service", str(checked.verdict), number(value.value), number(value.low), number(value.high),
                value.n, cleared=checked.cleared, reason=f"{key}: {checked.reason}",
            )
        )
    counts = sorted(p.rows for p in baseline if p.rows)
    if len(counts) >= 5:
        section["rows_usual"] = [counts[len(counts) // 20], counts[-1 - len(counts) // 20]]
    verdicts = [Verdict(r.verdict) for r in results[1:]]
    section["verdict"] = str(Verdict.NO_DATA if empty else roll_up(v for v in verdicts if v is not Verdict.INSUFFICIENT))
    return section, results
