"""Groups of a slice column compared: selection and error rates, against the reference group."""

from __future__ import annotations

from typing import Any

from checks.core.outputs import MISSING
from checks.core.result import Verdict
from checks.evaluate import evaluate
from checks.performance.methods.counted import Counted
from checks.performance.methods.fairness import RATES, gaps
from monitor.config.model import MonitorConfig
from monitor.config.types import ThresholdConfig
from monitor.evaluation.sections import number
from monitor.ports import RuleResult

Judged = tuple[list[dict[str, Any]], list[RuleResult]]


def judge_fairness(monitor: MonitorConfig, counted: Counted, state: str) -> Judged:
    """Differences and ratios of every group that has enough rows, with their limits; on labels that are final."""
    fair = monitor.quality.fairness
    if fair is None or monitor.task != "binary" or state in ("waiting", "unlabelled"):
        return [], []
    start = f"{fair.column}="
    all_groups = {
        name: counts for name, counts in counted.slices.items()
        if counted.cuts.get(name) == fair.column and name != start + MISSING
    }
    groups = {name: counts for name, counts in all_groups.items() if counts.rows >= monitor.quality.min_rows}
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    reference = f"{start}{fair.reference}" if fair.reference is not None else max(groups, key=lambda n: groups[n].rows, default="")
    if reference not in groups or len(groups) < 2:
        least = f"{monitor.quality.min_rows} labelled rows"
        why = f"only one group of {fair.column} has {least}" if reference in groups else (
            f"the reference group {reference} has fewer than {least}, or is not there" if fair.reference is not None else f"no group of {fair.column} has {least}"
        )
        for key in fair.limits:
            rule = f"quality.fairness.{key}"
            results.append(RuleResult(rule, "quality", "insufficient", slice=fair.column, state=state, cleared=False, reason=f"{rule}: {why}"))
        return [_row("fairness", fair.column, None, None, None, 0, Verdict.INSUFFICIENT) | {"reason": why}], results
    limits: dict[str, ThresholdConfig] = {str(key): limit for key, limit in fair.limits.items()}
    for gap in gaps(groups, reference):
        for kind, value in (("difference", gap.difference), ("ratio", gap.ratio)):
            shown = f"{gap.rate}_{kind}"
            limit = limits.get(shown)
            verdict, reason, cleared = Verdict.PASS, "", True
            if value.value is None or value.n < monitor.quality.min_rows // 4:
                verdict, reason = Verdict.INSUFFICIENT, f"{value.n} rows of one group are too few"
            elif limit is not None:
                checked = evaluate(value, limit.threshold(), 0)
                verdict, reason, cleared = checked.verdict, checked.reason, checked.cleared
                if state == "provisional":
                    verdict, reason, cleared = Verdict.INSUFFICIENT, f"provisional: {reason}", False
            rows.append(_row(shown, gap.group, value.value, value.low, value.high, value.n, verdict) | {"against": reference})
            if limit is not None and verdict is not Verdict.INSUFFICIENT:
                results.append(RuleResult(
                    f"quality.fairness.{shown}[{gap.group}]", "quality", str(verdict), number(value.value), number(value.low), number(value.high),
                    value.n, slice=gap.group, state=state, cleared=cleared, reason=f"{shown} of {gap.group} against {reference}: {reason}",
                ))
    for name in sorted(set(all_groups) - set(groups)):
        rows.append(_row(RATES[0], name, None, None, None, all_groups[name].rows, Verdict.INSUFFICIENT))
    return rows, results


def _row(kind: str, name: str, value: float | None, low: float | None, high: float | None, n: int, verdict: Verdict) -> dict[str, Any]:
    return {
        "metric": kind, "slice": name, "value": number(value), "low": number(low), "high": number(high), "n": n, "verdict": str(verdict),
        "estimated": False, "fairness": True,
    }
