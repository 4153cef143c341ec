"""When a rollback helps: the guards, each a pure function of the evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from checks.core.window import Window
from monitor.alerting.fold import WindowResults

FAMILIES = ("quality", "service")
SHARE_LIVE = 0.95
LONGEST_VERSION = 200
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Witness:
    """One window as the guards see it: its versions, and the verdicts of the breaching rules in it."""

    window: Window
    versions: dict[str, int]
    verdict: str
    rules: dict[str, str]
    rows: int
    enough: bool

    @property
    def version(self) -> str | None:
        """The version that served at least 95% of the rows, or None."""
        total = sum(self.versions.values())
        if not total:
            return None
        name, count = max(self.versions.items(), key=lambda item: item[1])
        return name if count / total >= SHARE_LIVE else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the guards look at."""

    family: str
    severity: str
    rules: tuple[str, ...]
    fire: tuple[int, int]
    clear: int
    witnesses: Sequence[Witness]
    now: datetime
    length: timedelta
    lateness: timedelta
    attribution: timedelta
    cooldown: timedelta
    to_version: str
    fallback: str | None
    bad_versions: frozenset[str]
    previous_rollbacks: Sequence[tuple[datetime, str, str]] = ()
    fleet_today: int = 0
    kill_switch: bool = False
    held_by: str = ""
    compared: Mapping[str, Any] | None = None
    on_output: bool = False
    maintenance: str = ""
    pending: str = ""
    source_incident: str = ""
    refused: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard's answer."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the guards say: versions, and every guard with its reason."""

    from_version: str
    to_version: str
    guards: tuple[Guard, ...] = field(default=())

    @property
    def allowed(self) -> bool:
        return all(guard.passed for guard in self.guards)


def propose(evidence: Evidence) -> Proposal:
    """Evaluate guards 1 to 6, and what a comparison of both versions says where there is one."""
    ordered = sorted(evidence.witnesses, key=lambda w: w.window.start)
    live = _live(ordered)
    breaching = [w for w in ordered if any(w.rules.get(rule) in ("warn", "fail") for rule in evidence.rules)]
    recent = [w for w in breaching if w.version == live]
    previous = _previous(ordered, live)
    target = evidence.to_version
    if target == "last_good":
        target = evidence.fallback or previous or ""
    guards = (
        _family(evidence, ordered, recent, live), *_scope(evidence),
        _evidence(evidence, ordered, recent, live),
        _attribution(evidence, ordered, recent, live, previous, target),
        _versions(evidence, live, target),
        _frequency(evidence),
        _timely(evidence, ordered), *_comparison(evidence, live, target),
    )
    return Proposal(live or "", target, guards)


def propose_release(evidence: Evidence, version: str, previous: str, since: datetime, sentence: str) -> Proposal:
    """Evaluate the guards for a new version that its watch found to be worse than the one before it."""
    ordered = sorted(evidence.witnesses, key=lambda w: w.window.start)
    target = previous if evidence.to_version == "last_good" else evidence.to_version
    target = evidence.fallback or target
    mine = [w for w in ordered if w.version == target and w.window.start < since and w.verdict not in ("error", "no_data", "inhibited")][-evidence.clear :]
    healthy = len(mine) >= evidence.clear and all(w.verdict != "fail" for w in mine)
    soon = evidence.now - since < evidence.attribution
    later = next((w for w in reversed(ordered) if w.rows and w.window.start >= since), None)
    left = later is not None and not later.versions.get(version)
    seen = f"but the newest window is served by {later.version or 'others'}" if later is not None and left else f"hour by hour against {previous}: {sentence}"
    detail = f"{version} was first seen {since:%Y-%m-%d %H:%MZ}" + ("" if soon else ", too long ago to blame it for what happens now")
    detail += f"; {target} did not fail in its last {len(mine)} windows" if healthy else f"; {target} has no {evidence.clear} known windows without a fail before it"
    return Proposal(version, target, (
        _family(evidence, ordered, [], None), *_scope(evidence), Guard("evidence", not left, seen),
        Guard("attribution", soon and (healthy or target == evidence.fallback), detail), _versions(evidence, version, target),
        _frequency(evidence), _timely(evidence, ordered), *_comparison(evidence, version, target),
    ))


def _comparison(evidence: Evidence, live: str | None, target: str) -> tuple[Guard, ...]:
    """Where both versions served the same windows, what their comparison says of going back; nothing where they did not."""
    found = evidence.compared
    if not found or {found.get("first_version"), found.get("second_version")} != {live, target} or not live:
        return ()
    verdict = str(found.get("verdict"))
    if found.get("first_version") == live:  # the verdict is on the second version
        verdict = {"better": "worse", "worse": "better"}.get(verdict, verdict)
    said = f"on the same windows {live} is {verdict} by {found.get('metric')}"
    if verdict in ("better", "equivalent"):
        return (Guard("comparison", False, f"{said}: going back to {target} would not help"),)
    return (Guard("comparison", True, said),)


def _live(ordered: Sequence[Witness]) -> str | None:
    return next((w.version for w in reversed(ordered) if w.rows), None)


def _previous(ordered: Sequence[Witness], live: str | None) -> str | None:
    before = [w.version for w in ordered if w.version is not None and w.version != live]
    return before[-1] if before else None


def _family(evidence: Evidence, ordered: Sequence[Witness], recent: Sequence[Witness], live: str | None) -> Guard:
    """Quality, service, drift of the predictions; a violation on prediction, score or version only if it came with a version."""
    said = f"a {evidence.severity} of family {evidence.family}"
    if evidence.severity != "fail":
        return Guard("family", False, f"{said}; only a fail rolls back")
    if evidence.family in FAMILIES:
        return Guard("family", True, said)
    if not evidence.on_output:
        return Guard("family", False, f"{said}; only quality, service and what the model puts out roll back: the inputs are not the version's fault")
    if evidence.family == "drift":
        return Guard("family", True, f"{said}, of the predictions")
    streak = _streak(ordered, live) if live is not None else []
    with_it = bool(streak) and bool(recent) and recent[0].window.start - streak[0].window.start <= evidence.length
    return Guard("family", with_it, f"{said} on what the model puts out, " + (
        f"which began with {live}" if with_it else "which did not begin with a version: the version is not the cause"
    ))


def _scope(evidence: Evidence) -> tuple[Guard, ...]:
    """Trouble that other models of the same source have, too, is not this version's."""
    if not evidence.source_incident:
        return ()
    return (Guard("scope", False, f"it is part of {evidence.source_incident}, of the source that other monitors share"),)


def _evidence(evidence: Evidence, ordered: Sequence[Witness], recent: Sequence[Witness], live: str | None) -> Guard:
    need, of = evidence.fire
    if live is None:
        return Guard("evidence", False, "the version now live is not known")
    mine = [w for w in ordered if w.version == live and any(r in w.rules for r in evidence.rules)]
    known = [w for w in mine if any(w.rules.get(r) in ("pass", "warn", "fail") for r in evidence.rules)][-of:]
    bad = [w for w in known if any(w.rules.get(r) == "fail" for r in evidence.rules)]
    unsure = [w for w in bad if w.verdict in ("error", "no_data", "inhibited") or not w.enough]
    passed = len(bad) >= need and not unsure
    return Guard(
        "evidence", passed,
        f"{len(bad)} of the last {len(known)} known windows of {live} fail with enough rows; {need} of {of} are needed"
        + (f"; {len(unsure)} of them cannot be trusted" if unsure else ""),
    )


def _attribution(
    evidence: Evidence, ordered: Sequence[Witness], recent: Sequence[Witness], live: str | None, previous: str | None, target: str,
) -> Guard:
    if not recent or live is None:
        return Guard("attribution", False, "no breaching window belongs to the version now live")
    if evidence.fallback is not None and target == evidence.fallback:
        return Guard("attribution", True, f"{target} is marked as fallback and needs no history")
    if previous is None:
        return Guard("attribution", False, f"no version before {live} is known")
    went_live = next(w.window.start for w in _streak(ordered, live))
    delay = recent[0].window.start - went_live
    soon = timedelta(0) <= delay < evidence.attribution
    mine = [w for w in ordered if w.version == target and w.window.start < went_live]
    known = [w for w in mine if any(w.rules.get(r) in ("pass", "warn", "fail") for r in evidence.rules)][-evidence.clear :]
    healthy = len(known) >= evidence.clear and all(
        w.rules.get(r, "pass") not in ("warn", "fail") for w in known for r in evidence.rules
    )
    detail = f"{live} went live {went_live:%Y-%m-%d %H:%MZ}, first breach {delay.total_seconds() / 3600:.0f} h later"
    if healthy:
        detail += f"; {target} was within limits on its last {len(known)} known windows"
    elif len(known) < evidence.clear:
        detail += f"; of {target} only {len(known)} known window{'' if len(known) == 1 else 's'} came before it, {evidence.clear} are needed"
    else:
        detail += f"; {target} was not within limits on its last {evidence.clear} windows: the data may have changed, going back may not help"
    return Guard("attribution", soon and healthy, detail)


def _streak(ordered: Sequence[Witness], live: str) -> list[Witness]:
    """The windows from where ``live`` began to serve without another version in between."""
    streak: list[Witness] = []
    for witness in reversed(ordered):
        if witness.version not in (live, None):
            break
        if witness.version == live:
            streak.append(witness)
    return list(reversed(streak))


def _versions(evidence: Evidence, live: str | None, target: str) -> Guard:
    if not target:
        return Guard("versions", False, "there is no version to go back to")
    if target == live:
        return Guard("versions", False, f"{target} is live already")
    odd = next((v for v in (live or "", target) if len(v) > LONGEST_VERSION or not v.isprintable()), None)
    if odd is not None:
        return Guard("versions", False, f"{odd[:40]!r}.. is no version that can be asked for: up to {LONGEST_VERSION} printable characters")
    if target in evidence.bad_versions:
        return Guard("versions", False, f"{target} is on the list of bad versions")
    left = {old for _, old, _ in evidence.previous_rollbacks}
    if target in left:
        return Guard("versions", False, f"{target} was itself rolled back from")
    if (live or "", target) in evidence.refused:
        return Guard("versions", False, f"a person has refused to go from {live} to {target}")
    return Guard("versions", True, f"from {live} to {target}, if {live} is still live then")


def _frequency(evidence: Evidence) -> Guard:
    recent = [at for at, _, _ in evidence.previous_rollbacks if evidence.now - at < max(evidence.cooldown, DAY)]
    if recent:
        return Guard("frequency", False, f"this model was rolled back at {recent[-1]:%Y-%m-%d %H:%MZ}, within the cool-down or a day")
    if evidence.fleet_today >= 3:
        return Guard("frequency", False, f"{evidence.fleet_today} rollbacks of the fleet today; 3 are the most")
    return Guard("frequency", True, "none of this model within the cool-down")


def _timely(evidence: Evidence, ordered: Sequence[Witness]) -> Guard:
    if evidence.kill_switch:
        return Guard("timely", False, "the kill switch is set")
    if evidence.held_by:
        return Guard("timely", False, f"held by {evidence.held_by}")
    if evidence.maintenance:
        return Guard("timely", False, f"maintenance: {evidence.maintenance}")
    if evidence.pending:
        return Guard("timely", False, f"another rollback of this model waits for approval: {evidence.pending}")
    newest = next((w.window.end for w in reversed(ordered) if w.rows), None)
    allowed = max(2 * evidence.length, timedelta(hours=24)) + evidence.lateness
    if newest is None or evidence.now - newest > allowed:
        shown = f"{newest:%Y-%m-%d %H:%MZ}" if newest else "never"
        return Guard("timely", False, f"what is live now is not known: the newest window ended {shown}")
    return Guard("timely", True, "no hold, no kill switch, the newest window is recent")


def not_after(decided: datetime, length: timedelta) -> datetime:
    """The moment after which a decided rollback is too late: two windows, at most an hour."""
    return decided + min(2 * length, timedelta(hours=1))


def payload_hash(data: Mapping[str, Any]) -> str:
    """The name of what is approved: incident, versions and everything else that is sent, but for the time that bounds it."""
    body = {key: value for key, value in data.items() if key != "not_after"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()


CODE_DIGITS = 8


def code_of(digest: str) -> str:
    """The short code by which a person approves just that payload."""
    return digest[:CODE_DIGITS]


def effect(windows: Sequence[WindowResults], rules: Collection[str], since: datetime, clear: int, least: int) -> tuple[str, str]:
    """Verification B: ``effective`` when the broken ``rules`` held for ``clear`` windows after ``since`` with at least ``least``
    rows, ``no_effect`` when the first of them still broke; two empty texts while that is not known."""
    good = 0
    for item in windows:
        if item.window.start < since:
            continue
        found = [r for r in item.results if r.rule in rules and r.verdict in ("pass", "warn", "fail") and (r.n >= least or r.family == "service")]
        if not found:
            continue
        if any(r.verdict in ("warn", "fail") for r in found):
            worst = next(r for r in found if r.verdict in ("warn", "fail"))
            return "no_effect", f"after it, {worst.reason or worst.rule}: the version was not the cause, or not the only one; no second rollback is sent"
        good += 1
        if good >= clear:
            return "effective", f"what it was for held in {good} window{'' if good == 1 else 's'} after it"
    return "", ""
