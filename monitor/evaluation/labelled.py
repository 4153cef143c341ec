"""The whole quality section of a run or a recount: labels, estimates, business figures, parity, weakest slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from checks.core.binning import Binning
from checks.core.errors import DriftdError
from checks.core.profile import Profile
from checks.core.result import Statistic, Verdict, roll_up
from checks.evaluate import evaluate
from monitor.config.model import MonitorConfig
from monitor.config.types import ThresholdConfig
from monitor.evaluation.estimates import estimated, wanted
from monitor.evaluation.kpis import judge_kpis
from monitor.evaluation.parity import judge_parity
from monitor.evaluation.quality import FINAL, UNLABELLED, WAITING, Question, check_columns, judge_quality, nothing, stored_quality
from monitor.evaluation.weakest import find_weakest
from monitor.ports import QualityAnswer, RuleResult, RunJob, Source
from monitor.profiling.masks import NOT_COUNTABLE

Open = Callable[[Any], Source]
NEVER = "there is nothing to estimate from"


def has_quality(monitor: MonitorConfig) -> bool:
    """Whether a monitor has a quality section at all."""
    return monitor.labels is not None or bool(monitor.quality.custom or monitor.kpis) or monitor.parity is not None


def quality_of_run(
    job: RunJob, question: Question, types: dict[str, str], binning: Binning, profile: Profile, open_source: Open,
) -> QualityAnswer | None:
    """The quality section of a window that was just scanned, or whose scan is stored."""
    monitor = job.monitor
    if not has_quality(monitor):
        return None
    if not types:
        return with_kpis(nothing(monitor), question, open_source)
    if job.stored is not None and job.stored.counts:
        duplicates = int(job.stored.plan.get("duplicate_ids", 0))
        label = job.settings.label_column
        answer = stored_quality(monitor, job.stored.counts, job.stored.labelled or 0.0, duplicates, job.window, job.now, label)
        answer = beside_stored(monitor, answer, job.stored.quality or {})
    else:
        answer = with_kpis(counted(question, binning, types, open_source, searched=False), question, open_source)
        answer = with_parity(answer, question, types, open_source)
    if wanted(monitor) and profile.rows:
        basis, rows, results = estimated(monitor, binning, profile, profile.outputs, job.calibration, job.uncalibrated or NEVER)
        answer = added(answer, {"estimate": basis}, rows, results)
    return answer


def counted(question: Question, binning: Binning, types: dict[str, str], open_source: Open, *, searched: bool) -> QualityAnswer:
    """Labels joined and counted, and the weakest slices; what a broken label source or an odd row raises is the section's own error."""
    monitor = question.monitor
    labelled = monitor.labels is not None
    labels = open_source(monitor.labels.source) if monitor.labels is not None else None
    source = open_source(monitor.source)
    passed = (RuleResult("service.labels", "service", "pass"),) if labelled else ()
    try:
        if labelled:
            check_columns(monitor, types)
        answer = judge_quality(question, source, labels, types)
        answer = replace(answer, results=(*answer.results, *passed))
    except (DriftdError, *NOT_COUNTABLE) as error:
        answer = failed(_words(error), WAITING if labelled else UNLABELLED, labelled=labelled)
    if answer.section["state"] == FINAL and monitor.quality.weakest and labels is not None and not searched:
        try:
            found = find_weakest(question, binning, source, labels, types)
        except (DriftdError, *NOT_COUNTABLE) as error:
            found = {"reason": _words(error), "slices": []}
        if found is not None:
            answer = added(answer, {"weakest": found}, [], [])
    return answer


def with_kpis(answer: QualityAnswer, question: Question, open_source: Open) -> QualityAnswer:
    """The answer with the business figures, which a window without predictions has, too."""
    if not question.monitor.kpis:
        return answer
    section, results = judge_kpis(question.monitor, open_source, question.window)
    return added(answer, {"kpis": section}, [], results)


def with_parity(answer: QualityAnswer, question: Question, types: dict[str, str], open_source: Open) -> QualityAnswer:
    """The answer with the parity of logged and offline features."""
    monitor = question.monitor
    if monitor.parity is None:
        return answer
    section, results = judge_parity(monitor, open_source(monitor.source), open_source(monitor.parity.source), question.window, types)
    return added(answer, {"parity": section}, [], results)


def failed(why: str, state: str, *, labelled: bool = True) -> QualityAnswer:
    """What is known when labels cannot be counted: that quality cannot be known."""
    section = {"verdict": "error", "state": state, "labelled": 0.0, "metrics": [], "reason": why}
    rule = "service.labels" if labelled else "quality.metrics"
    found = RuleResult(rule, rule.partition(".")[0], "warn" if labelled else "error", reason=f"quality cannot be known: {why}")
    return QualityAnswer(section, (found,), b"", 0.0)


def _words(error: Exception) -> str:
    """An error in one line: driftd's own says all, of another the kind helps."""
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, DriftdError) else f"{type(error).__name__}: {first}"


def added(answer: QualityAnswer, parts: dict[str, Any], rows: list[dict[str, Any]], results: list[RuleResult]) -> QualityAnswer:
    """The answer with more in it; its verdict is graver where what came is a breach or an error."""
    grave = [Verdict(r.verdict) for r in results if Verdict(r.verdict).breach or r.verdict == "error"]
    verdict = str(roll_up([Verdict(answer.section["verdict"]), *grave]))
    section = {**answer.section, **parts, "verdict": verdict, "metrics": [*answer.section["metrics"], *rows]}
    return replace(answer, section=section, results=(*answer.results, *results))


def beside_stored(monitor: MonitorConfig, answer: QualityAnswer, old: dict[str, Any]) -> QualityAnswer:
    """Business figures and parity as an earlier run measured them, judged by today's limits; and the slices that it found."""
    if monitor.labels is not None:
        answer = replace(answer, results=(*answer.results, RuleResult("service.labels", "service", "pass")))
    if monitor.quality.weakest and old.get("weakest"):
        answer = added(answer, {"weakest": old["weakest"]}, [], [])
    kpis = {name: row for name, row in (old.get("kpis") or {}).items() if name in monitor.kpis}
    if kpis:
        results = []
        for name, row in kpis.items():
            found = _again(f"quality.kpi[{name}]", name, row, row.get("value"), monitor.kpis[name].limits, 0)
            kpis[name] = {**row, "verdict": found.verdict}
            results.append(found)
        answer = added(answer, {"kpis": kpis}, [], results)
    if monitor.parity is not None and old.get("parity"):
        parity = dict(old["parity"])
        results = [
            _again(f"quality.parity[{r['column']}]", r["column"], r, r["share"], monitor.parity.limits, monitor.parity.min_rows)
            for r in parity["columns"]
        ]
        parity["columns"] = [{**row, "verdict": found.verdict} for row, found in zip(parity["columns"], results, strict=True)]
        answer = added(answer, {"parity": parity}, [], results)
    return answer


def _again(rule: str, name: str, row: dict[str, Any], value: float | None, limit: ThresholdConfig | None, least: int) -> RuleResult:
    column = name if rule.startswith("quality.parity") else None
    if value is None or limit is None:
        return RuleResult(rule, "quality", row["verdict"] if value is None else "pass", value, row.get("low"), row.get("high"), row["n"], column)
    checked = evaluate(Statistic(value, row["low"], row["high"], row["n"]), limit.threshold(), least)
    return RuleResult(
        rule, "quality", str(checked.verdict), value, row["low"], row["high"], row["n"], column, cleared=checked.cleared,
        reason=f"{name}: {checked.reason}",
    )

