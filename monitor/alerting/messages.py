"""Message facts and their plain text: readable without any link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from checks.core.window import Window, iso
from monitor.alerting.incidents import WRONG
from monitor.alerting.violations import change_sentence
from monitor.ports import RuleResult

MOST_MEMBERS = 5
EXPIRED = "it could not be known for 14 windows; whether it is well is not known"
FOLLOWED = ("dispatched", "unknown", "accepted", "confirmed", "verified", "effective", "no_effect", "failed")
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
    live_since: tuple[str, datetime | None] = ("", None)
    sentence: str = ""
    rollback: Mapping[str, Any] | None = None
    tokens: int | None = None
    runbook: str | None = None
    public_url: str | None = None
    report: str | None = None
    delayed: bool = False
    contract_change: Mapping[str, Any] | None = None
    flapping: bool = False
    opened_at: datetime | None = None
    others: Sequence[str] = ()
    state: str = "open"
    rollback_mode: str = "off"


MOST_CHARACTERS = 400
"""Of one rule's reason: both of its ends are shown, as the reason stands at the end of a long name."""


def brief(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text with what is too long left out of its middle."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def headline(family: str, members: Sequence[RuleResult], sentence: str) -> str:
    """What happened, in one line."""
    if family == "drift" and sentence and any(m.rule == "drift" for m in members):
        return sentence[:1].upper() + sentence[1:]
    worst = sorted(members, key=lambda m: (m.verdict != "fail", m.rule))
    if not worst:
        return family
    more = f" and {len(worst) - 1} more" if len(worst) > 1 else ""
    return brief(worst[0].reason or worst[0].rule) + more


def payload(facts: Facts) -> dict[str, Any]:
    """The Standard Webhooks payload."""
    return {
        "type": facts.type, "timestamp": iso(facts.at),
        "data": {
            "incident": f"INC-{facts.incident}", "sequence": facts.sequence, "covers": [facts.sequence],
            "monitor": facts.monitor, "family": facts.family, "severity": facts.severity, "owner": facts.owner,
            "headline": facts.headline, "why": facts.why, "state": facts.state, "opened_at": iso(facts.opened_at or facts.at), "since": iso(facts.since),
            "window": {"start": iso(facts.window.start), "end": iso(facts.window.end)},
            "drivers": [dict(d) for d in facts.drivers][:MOST_MEMBERS], "broken": len(facts.members),
            "members": [
                {"rule": brief(m.rule), "verdict": m.verdict, "value": m.value, "low": m.low, "high": m.high, "reason": brief(m.reason, 1000)}
                for m in worst_first(facts.members)[:MOST_MEMBERS]
            ],
            "rollback": dict(facts.rollback) if facts.rollback else None,
            "contract_changed": dict(facts.contract_change) if facts.contract_change else None,
            "cause": cause(facts), "rows": facts.rows, "model_versions": dict(facts.versions),
            "links": _links(facts), "delayed": facts.delayed,
        },
    }


def worst_first(members: Sequence[RuleResult]) -> list[RuleResult]:
    """Fails before warnings, and the whole before its slices."""
    return sorted(members, key=lambda m: (m.verdict != "fail", m.slice not in (None, "ALL")))


def _links(facts: Facts) -> dict[str, str]:
    """Where the incident and its window are shown; nothing without a ``public_url``."""
    if not facts.public_url:
        return {}
    base = facts.public_url.rstrip("/")
    return {"incident": f"{base}/incidents/{facts.incident}", **({"report": f"{base}/reports/{facts.report}"} if facts.report else {})}


NEW = timedelta(hours=72)
"""A version that went live at most so long before the first breach may be its cause."""


def cause(facts: Facts) -> str:
    """The likely cause and what it is not, as far as times and other families tell; empty when they tell nothing."""
    version, since = facts.live_since
    if facts.state != "open" or (facts.rollback and facts.rollback.get("to_version") == version):
        return ""  # what serves now is what was gone back to
    said = []
    if facts.others:
        said.append(f"likely with {', '.join(facts.others)}, open on the same windows")
    if since is not None and timedelta(0) <= facts.since - since < NEW:
        said.append(f"{_began(facts.since - since)} {version} went live ({iso(since)}): {version} is likely the cause")
    elif since is not None and facts.since < since:
        said.append(f"not {version}: it went live only later ({iso(since)})")
    elif version:
        shown = f"since {iso(since)}" if since is not None else "for a long time"
        said.append(f"not a new version: {version} has served {shown}")
    return "; ".join(said)


def _began(delay: timedelta) -> str:
    hours = delay.total_seconds() / 3600
    return "it began with the window in which" if hours == 0 else f"it began {hours:.0f} h after" if hours < 48 else f"it began {hours / 24:.0f} days after"


def text(facts: Facts) -> str:
    """The message as a person reads it on a phone at night."""
    state = STATES.get(facts.type, facts.type)
    if facts.type == "incident.resolved" and facts.why == "expired":
        state = "CLOSED, NOT KNOWN TO BE WELL"
    elif facts.type == "incident.updated" and facts.state != "open":
        state = "UPDATE on what is over"
    lines = [f"{state} [{facts.severity}] {facts.monitor}: {facts.headline} (INC-{facts.incident}, message {facts.sequence})"]
    if facts.why:
        lines.append("What changed: " + (EXPIRED if facts.why == "expired" else facts.why) + ".")
    lines.append(f"Window {iso(facts.window.start)} to {iso(facts.window.end)}; firing since {iso(facts.since)}.")
    if facts.type == "incident.withdrawn" and facts.rollback and facts.rollback.get("state") in FOLLOWED:
        lines.append(f"A rollback had followed ({facts.rollback.get('state')}): look whether {facts.rollback.get('from_version')} should serve again.")
    if facts.delayed:
        lines.append(f"Delivered late: found at {iso(facts.at)}.")
    if facts.flapping and facts.type != "incident.resolved":
        lines.append("It comes and goes: no reminders while it does, and it ends after five good windows in a row.")
    if facts.type in ("incident.fired", "incident.updated", "incident.reminder") and facts.state == "open":
        members = worst_first(facts.members)
        for member in members[:MOST_MEMBERS]:
            lines.append(f"- {brief(member.reason or member.rule)}")
        if len(members) > MOST_MEMBERS:
            lines.append(f"- and {len(members) - MOST_MEMBERS} more")
        lines += _driven(facts.drivers)
        if facts.contract_change:
            said = change_sentence(facts.contract_change)
            lines.append(f"{said[:1].upper()}{said[1:]}.")
        if facts.rows:
            lines.append(f"Rows in the window: {facts.rows:,}.")
        if facts.versions:
            shown = ", ".join(f"{name or '(none)'} {count:,}" for name, count in facts.versions.items())
            version, since = facts.live_since
            lines.append(f"Versions: {shown}" + (f"; {version} since {iso(since)}." if since is not None else "."))
        found = cause(facts)
        if found:
            lines.append(f"Cause: {found}.")
        if facts.normal:
            lines.append(f"Normal: {', '.join(facts.normal)}.")
        if facts.unknown:
            lines.append(f"Not known: {', '.join(facts.unknown)}.")
    if facts.rollback:
        lines.append(rollback_line(facts.rollback))
    wrong = facts.rollback is not None and facts.rollback.get("state") in WRONG and facts.why.startswith("rollback")
    if wrong:
        lines.append(f"Next: look which version of {facts.monitor} is live; driftd sends nothing more. driftd rollback why-not INC-{facts.incident}")
    elif facts.type not in ("incident.resolved", "incident.withdrawn") and facts.state == "open":
        lines.append("Next: " + next_step(facts))
    links = _links(facts)
    if links:
        lines.append("; ".join(f"{name[:1].upper()}{name[1:]}: {address}" for name, address in links.items()))
    if facts.tokens is not None and facts.family == "drift":
        lines.append(f"Budget: {facts.tokens} token{'' if facts.tokens == 1 else 's'} left.")
    lines.append(f"Owner: {facts.owner}.")
    return "\n".join(lines)


def _driven(drivers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that drive a drift: how many, and the worst five by how unusual they are."""
    by_column: dict[str, Mapping[str, Any]] = {}
    for driver in sorted(drivers, key=lambda d: -abs(float(d.get("z") or 0.0))):
        by_column.setdefault(str(driver.get("column")), driver)
    if len(by_column) < 2:
        return []
    shown = [_driver(d) for d in list(by_column.values())[:MOST_MEMBERS]]
    return [f"{len(by_column)} columns moved" + (f", the worst {MOST_MEMBERS}:" if len(by_column) > MOST_MEMBERS else ":"), *(f"- {line}" for line in shown)]


def _driver(driver: Mapping[str, Any]) -> str:
    effect, usual = driver.get("effect"), driver.get("usual")
    moved = f" {effect:+.3g} {driver.get('unit') or ''}".rstrip() if isinstance(effect, int | float) else ""
    normal = f" (usual {usual[0]:.3g} to {usual[1]:.3g})" if isinstance(usual, list | tuple) and len(usual) == 2 and None not in usual else ""
    return f"{brief(str(driver.get('column')), 100)}: {driver.get('contrast')}{moved}{normal}"


def rollback_line(rollback: Mapping[str, Any]) -> str:
    """The rollback's state in one sentence."""
    state = str(rollback.get("state")).replace("_", " ")
    until = ""
    if rollback.get("state") in ("requested", "dispatched") and rollback.get("not_after"):
        until = f"; not sent after {rollback['not_after']}"
    if rollback.get("state") == "awaiting_approval" and rollback.get("expires"):
        until = f"; until {rollback['expires']}"
    detail = f" ({rollback['detail']}{until})" if rollback.get("detail") else until
    target = rollback.get("to_version") or "no known version"
    return f"Rollback from {rollback.get('from_version') or 'an unknown version'} to {target}: {state}{detail}."


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
    hands = f"; driftd ack INC-{facts.incident} stops reminders" + (f", driftd hold INC-{facts.incident} a rollback" if facts.rollback_mode in ("approve", "auto") else "")
    if facts.rollback and facts.rollback.get("state") in ("accepted", "confirmed", "verified"):
        return f"{runbook}wait: driftd looks whether going back to {facts.rollback.get('to_version')} helps, and says so{hands}"
    if any(member.rule.startswith("service.deployment") for member in facts.members):
        return f"{runbook}compare both versions' code and configuration, and go back if the new one is the cause; driftd deployments {facts.monitor}{hands}"
    if any(member.rule.startswith("service.labels") for member in facts.members):
        return f"{runbook}ask the producer of the labels; quality is not known until they come; driftd check {facts.monitor}"
    return f"{runbook}{advice}; driftd report {facts.monitor} --window {iso(facts.window.start)}{hands}"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of trouble that monitors of one source share. ``inside`` are monitor, what it has, and whether it is open."""

    type: str
    incident: int
    label: str
    severity: str
    owner: str
    headline: str
    since: datetime
    at: datetime
    why: str
    inside: Sequence[tuple[str, str, str]]
    rollbacks: int
    public_url: str | None = None


MOST_MONITORS = 25


def source_payload(facts: SourceFacts, sequence: int) -> dict[str, Any]:
    """The Standard Webhooks payload of a source's incident."""
    links = {"incident": f"{facts.public_url.rstrip('/')}/incidents/{facts.incident}"} if facts.public_url else {}
    monitors = list(dict.fromkeys(monitor for monitor, _, _ in facts.inside))
    return {
        "type": facts.type, "timestamp": iso(facts.at),
        "data": {
            "incident": f"INC-{facts.incident}", "sequence": sequence, "covers": [sequence], "monitor": None, "source": facts.label,
            "monitors": monitors, "family": "service", "severity": facts.severity, "owner": facts.owner, "headline": facts.headline,
            "why": facts.why, "opened_at": iso(facts.since), "since": iso(facts.since),
            "members": [{"monitor": m, "what": what[:300], "state": state} for m, what, state in facts.inside[:MOST_MONITORS]],
            "rollback": None, "links": links, "delayed": False,
        },
    }


def source_text(facts: SourceFacts, sequence: int) -> str:
    """The message on a source's incident."""
    lines = [f"{STATES.get(facts.type, facts.type)} [{facts.severity}] {facts.headline} (INC-{facts.incident}, message {sequence})"]
    if facts.why:
        lines.append(f"What changed: {facts.why}.")
    lines.append(f"Source: {facts.label}; since {iso(facts.since)}.")
    open_now = [(m, what) for m, what, state in facts.inside if state == "open"]
    if facts.type != "incident.resolved":
        by_monitor: dict[str, list[str]] = {}
        for monitor, what in open_now:
            by_monitor.setdefault(monitor, []).append(what)
        for monitor, found in list(by_monitor.items())[:MOST_MONITORS]:
            shown = found[0] if len(found[0]) <= 160 else found[0][:157] + "..."
            lines.append(f"- {monitor}: {shown}" + (f" and {len(found) - 1} more" if len(found) > 1 else ""))
        if len(by_monitor) > MOST_MONITORS:
            lines.append(f"- and {len(by_monitor) - MOST_MONITORS} more monitors")
        lines.append("No rollback follows from it: models that share only their data fail with their data.")
        lines.append(f"Next: ask who produces {facts.label}; the owners of the models have been told. driftd ack INC-{facts.incident} stops reminders.")
    if facts.public_url:
        lines.append(f"Incident: {facts.public_url.rstrip('/')}/incidents/{facts.incident}")
    lines.append(f"Owner: {facts.owner}.")
    return "\n".join(lines)
