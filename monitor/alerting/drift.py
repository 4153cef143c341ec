"""Whether an unusual window may open an incident: the limit, the tokens that keep the budget, and how grave it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from checks.calibration.ledger import EXTREME, Budget, alert_below, balance, may_spend, next_token
from checks.core.result import Verdict, roll_up
from checks.core.window import Window, iso
from monitor.alerting.fold import DRIFT_RULE
from monitor.ports import Outcome, RuleResult


@dataclass(frozen=True, slots=True)
class DriftDecision:
    """``verdict`` and ``state`` of the drift section; ``spend`` says that this window costs a token."""

    verdict: str
    state: str
    limit: float
    tokens: int
    spend: bool
    reason: str


def decide(
    p_value: float | None, learning: bool, window: Window, budget: Budget, spent: Sequence[datetime],
    owner_budget: Budget | None, owner_spent: Sequence[datetime], incident_open: bool,
) -> DriftDecision:
    """The decision on a window with that p-value.

    A breach inside an open incident costs nothing. Without a token only the extreme opens one, on credit; everything
    else is ``watch``. A window that already paid stays paid.
    """
    limit = alert_below(budget.per(window.length), learning)
    left = int(balance(budget, spent, window.start))
    state = "learning" if learning else ""
    if p_value is None or p_value >= limit:
        return DriftDecision("pass" if p_value is not None else "insufficient", state, limit, left, False, "")
    if window.start in spent:
        return DriftDecision("warn", state, limit, left, False, "")
    if incident_open:
        return DriftDecision("warn", state, limit, left, False, "")
    extreme = p_value < EXTREME
    own = may_spend(budget, spent, window.start, extreme=extreme)
    owners = owner_budget is None or may_spend(owner_budget, owner_spent, window.start, extreme=extreme)
    if own and owners:
        return DriftDecision("warn", state, limit, max(left - 1, 0) if left > 0 else left - 1, True, "")
    whose = "monitor" if not own else "owner"
    when = next_token(budget if not own else owner_budget or budget, spent if not own else owner_spent, window.start)
    reason = f"held back: no token of the {whose}'s budget is left; the next comes {iso(when)[:10]}"
    return DriftDecision("warn", "watch", limit, left, False, reason)


def settled(outcome: Outcome, decision: DriftDecision, budget: str, keys: Sequence[str]) -> Outcome:
    """The outcome with the drift section as it was decided, its sections in the order of ``keys``.

    Input drift by itself is at most a warning; `graver` raises it.
    """
    drift = outcome.sections["drift"]
    verdict = decision.verdict if drift["verdict"] == "pass" else drift["verdict"]
    firing = verdict == "warn" and decision.state != "watch"
    why = graver(drift["drivers"], outcome.sections) if firing else ""
    verdict = "fail" if why else verdict
    limits = [r for r in outcome.results if r.family == "drift" and r.state == "limit"]
    both = [Verdict(verdict), *(Verdict(r.verdict) for r in limits if Verdict(r.verdict).breach)]
    broken = [r.reason for r in limits if Verdict(r.verdict).breach]
    said = broken[:3] + ([f"{len(broken) - 3} more limits"] if len(broken) > 3 else [])
    notes = [text for text in (decision.reason, why, *said) if text]
    kept = {k: v for k, v in drift.items() if k in ("pooled", "prediction", "extrapolated_from") and v is not None}
    section = {
        "verdict": str(roll_up(both)), "state": decision.state, "p_value": drift["p_value"], "alert_below": round(decision.limit, 6),
        "budget": budget, "tokens": decision.tokens, "seasonality": drift["seasonality"], "drivers": drift["drivers"],
        "sentence": drift["sentence"], "statistics": drift["statistics"], **kept, **({"note": "; ".join(notes)} if notes else {}),
    }
    reason = "; ".join([drift["sentence"], why]) if why else drift["sentence"]
    result = RuleResult(DRIFT_RULE, "drift", str(verdict), drift["p_value"], n=outcome.rows, state=decision.state, reason=reason)
    results = [r for r in outcome.results if r.state != "driver" or firing]
    sections = {key: section if key == "drift" else outcome.sections.get(key) for key in keys}
    return replace(outcome, sections=sections, results=(*results, result))


def graver(drivers: Sequence[Mapping[str, Any]], sections: Mapping[str, Any]) -> str:
    """Why drift of those drivers is a fail: a contract fails on one of them, or quality is beyond its limits; empty if not."""
    columns = {d["column"] for d in drivers}
    for violation in (sections.get("contract") or {}).get("violations", []):
        if violation["verdict"] == "fail" and violation["column"] in columns:
            return f"fail, as the contract's rule {violation['rule']} fails on it"
    quality = sections.get("quality") or {}
    # Of the model's own quality: what an order costs, what two groups get, is no sign that it suffers from the drift.
    beyond = [row["verdict"] for row in quality.get("metrics", []) if not row.get("custom") and not row.get("fairness")]
    grave = "fail" if "fail" in beyond else "warn" if "warn" in beyond else ""
    return f"fail, as quality is {grave}" if grave else ""


def raised(results: Sequence[RuleResult], sections: Mapping[str, Any]) -> list[RuleResult]:
    """The drift result of an earlier judgement, made a fail where labels that came since show that quality suffers."""
    drivers = (sections.get("drift") or {}).get("drivers", [])
    found = []
    for result in results:
        if result.rule == DRIFT_RULE and result.verdict == "warn" and result.state != "watch":
            why = graver(drivers, sections)
            result = replace(result, verdict="fail", reason=f"{result.reason}; {why}") if why else result
        found.append(result)
    return found


def watch_notice(monitor: str, window: Window, section: Mapping[str, Any], now: datetime) -> tuple[dict[str, Any], str]:
    """What is said once when drift begins to be held back: payload and text."""
    sentence = str(section["sentence"])
    data = {
        "monitor": monitor, "window": {"start": iso(window.start), "end": iso(window.end)}, "p_value": section["p_value"],
        "headline": sentence, "why": section.get("note", ""), "drivers": list(section["drivers"])[:5],
    }
    text = (
        f"HELD BACK [watch] {monitor}: {sentence}.\nWindow {iso(window.start)} to {iso(window.end)}; {section.get('note', '')}.\n"
        f"No drift incident is opened for it; other incidents of this window stand for themselves. Next: look at driftd report "
        f"{monitor} --window {iso(window.start)} if anything else seems wrong; accept what is normal, or raise drift.budget."
    )
    return {"type": "drift.held_back", "timestamp": iso(now), "data": data}, text


WATCH_AGAIN = timedelta(days=7)
"""After so long without a window held back, the next one is said again."""
