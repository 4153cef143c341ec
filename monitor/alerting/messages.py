"""Message facts and their plain text: readable without any link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from checks.core.window import Window, iso
from monitor.alerting.violations import change_sentence
from monitor.ports import RuleResult

MOST_MEMBERS = 5
STATES = {
    "incident.fired": "FIRING", "incident.updated": "UPDATE", "incident.resolved": "RESOLVED",
    "incident.withdrawn": "WITHDRAWN", "incident.reminder": "STILL FIRING",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when something of an incident is announced."""

    type: str
    incident: int
    sequence: int
    monitor: str
    family: str
    severity: str
    owner: str
    headline: str
    window: Window
    since: datetime
    at: datetime
    why: str = ""
    members: Sequence[RuleResult] = ()
    drivers: Sequence[Mapping[str, Any]] = ()
    normal: Sequence[str] = ()
    unknown: Sequence[str] = ()
    rows: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    live_since: str = ""
    sentence: str = ""
    rollback: Mapping[str, Any] | None = None
    tokens: int | None = None
    runbook: str | None = None
    public_url: str | None = None
    report: str | None = None
    delayed: bool = False
    contract_change: Mapping[str, Any] | None = None


def headline(family: str, members: Sequence[RuleResult], sentence: str) -> str:
    """What happened, in one line."""
    if family == "drift" and sentence and any(m.rule == "drift" for m in members):
        return sentence[:1].upper() + sentence[1:]
    worst = sorted(members, key=lambda m: (m.verdict != "fail", m.rule))
    if not worst:
        return family
    more = f" and {len(worst) - 1} more" if len(worst) > 1 else ""
    return (worst[0].reason or worst[0].rule) + more


def payload(facts: Facts) -> dict[str, Any]:
    """The Standard Webhooks payload."""
    links = {}
    if facts.public_url:
        base = facts.public_url.rstrip("/")
        links["incident"] = f"{base}/incidents/{facts.incident}"
        if facts.report:
            links["report"] = f"{base}/reports/{facts.report}"
    return {
        "type": facts.type, "timestamp": iso(facts.at),
        "data": {
            "incident": f"INC-{facts.incident}", "sequence": facts.sequence, "covers": [facts.sequence],
            "monitor": facts.monitor, "family": facts.family, "severity": facts.severity, "owner": facts.owner,
            "headline": facts.headline, "why": facts.why,
            "window": {"start": iso(facts.window.start), "end": iso(facts.window.end)},
            "drivers": [dict(d) for d in facts.drivers][:MOST_MEMBERS],
            "members": [
                {"rule": m.rule, "verdict": m.verdict, "value": m.value, "low": m.low, "high": m.high, "reason": m.reason}
                for m in list(facts.members)[:MOST_MEMBERS]
            ],
            "rollback": dict(facts.rollback) if facts.rollback else None,
            "contract_changed": dict(facts.contract_change) if facts.contract_change else None,
            "links": links, "delayed": facts.delayed,
        },
    }


def text(facts: Facts) -> str:
    """The message as a person reads it on a phone at night."""
    state = STATES.get(facts.type, facts.type)
    lines = [f"{state} [{facts.severity}] {facts.monitor}: {facts.headline} (INC-{facts.incident})"]
    if facts.why:
        lines.append(f"What changed: {facts.why}.")
    lines.append(f"Window {iso(facts.window.start)} to {iso(facts.window.end)}; firing since {iso(facts.since)}.")
    if facts.delayed:
        lines.append(f"Delivered late: found at {iso(facts.at)}.")
    if facts.type in ("incident.fired", "incident.updated"):
        for member in list(facts.members)[:MOST_MEMBERS]:
            lines.append(f"- {member.reason or member.rule}")
        if len(facts.members) > MOST_MEMBERS:
            lines.append(f"- and {len(facts.members) - MOST_MEMBERS} more")
        if facts.contract_change:
            said = change_sentence(facts.contract_change)
            lines.append(f"{said[:1].upper()}{said[1:]}.")
        if facts.rows:
            lines.append(f"Rows in the window: {facts.rows:,}.")
        if facts.versions:
            shown = ", ".join(f"{name or '(none)'} {count:,}" for name, count in facts.versions.items())
            lines.append(f"Versions: {shown}" + (f"; {facts.live_since}." if facts.live_since else "."))
        if facts.normal:
            lines.append(f"Normal: {', '.join(facts.normal)}.")
        if facts.unknown:
            lines.append(f"Not known: {', '.join(facts.unknown)}.")
    if facts.rollback:
        lines.append(rollback_line(facts.rollback))
    if facts.type != "incident.resolved":
        lines.append("Next: " + next_step(facts))
    if facts.tokens is not None and facts.family == "drift":
        lines.append(f"Budget: {facts.tokens} token{'' if facts.tokens == 1 else 's'} left.")
    lines.append(f"Owner: {facts.owner}.")
    return "\n".join(lines)


def rollback_line(rollback: Mapping[str, Any]) -> str:
    """The rollback's state in one sentence."""
    return (
        f"Rollback from {rollback.get('from_version')} to {rollback.get('to_version')}: {rollback.get('state')}"
        + (f" ({rollback['detail']})" if rollback.get("detail") else "") + "."
    )


def next_step(facts: Facts) -> str:
    """What the person should do."""
    advice = {
        "contract": "ask the producer of the column what changed; the contract names the rule's line",
        "data": "ask the producer of the column what changed, before you trust predictions of these windows",
        "drift": "compare the driving columns with what changed upstream; quality tells whether the model suffers",
        "quality": "look at the slices in the report and at what went live; roll back if the version is the cause",
        "service": "check that the model's log is written and the service answers",
    }[facts.family]
    runbook = f"runbook {facts.runbook}; " if facts.runbook else ""
    if any(member.rule.startswith("service.deployment") for member in facts.members):
        return f"{runbook}compare both versions' code and configuration, and go back if the new one is the cause; driftd deployments {facts.monitor}"
    if any(member.rule.startswith("service.labels") for member in facts.members):
        return f"{runbook}ask the producer of the labels; quality is not known until they come; driftd check {facts.monitor}"
    return f"{runbook}{advice}; driftd report {facts.monitor} --window {iso(facts.window.start)}"
