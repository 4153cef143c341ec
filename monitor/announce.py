"""What follows from a commit, inside its transaction: fold, incidents, announcements, outbox rows, rollback decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.calibration.ledger import balance
from checks.core.result import Verdict
from checks.core.window import Window, iso
from monitor.alerting import incidents as rules
from monitor.alerting import messages
from monitor.alerting.drift import WATCH_AGAIN, watch_notice
from monitor.alerting.fold import DRIFT_RULE, DRIVER, Accepted, Begun, Episode, Policy, WindowResults, fold
from monitor.alerting.rollback import FAMILIES, Evidence, Proposal, Witness, not_after, propose, propose_release
from monitor.config.model import Config, MonitorConfig
from monitor.ports import RuleResult
from monitor.prepare import Prepared
from monitor.store import incidents, outbox, runs
from monitor.store.store import audit

LOOK_BACK = 20
ROLLED_BACK = timedelta(days=16)
"""How far back results are folded where drift is decided once a day."""

SILENCE = "service.silence"
LABELS_LATE, LABELS_UNKNOWN = "service.labels_late", "service.labels_unknown"
DEPLOYMENT = "service.deployment"
PLATFORM_RULES = frozenset({"service.no_data", "service.error", "service.labels", SILENCE})


@dataclass(frozen=True, slots=True)
class Committed:
    """What was just committed: a window's run, or (``labels``) a recount of its labels."""

    window: Window
    now: datetime
    labels: bool


def policy_of(monitor: MonitorConfig, length: timedelta) -> Policy:
    """How many windows fire and clear, from the configuration."""
    fire = (1, 1) if length >= timedelta(hours=6) else (2, 3)
    if monitor.alerts.fire != "auto":
        need, _, of = monitor.alerts.fire.partition(" of ")
        fire = (int(need), int(of))
    return Policy(fire, monitor.alerts.clear)


class Announcer:
    """Brings what is announced of one monitor in line with what its results say."""

    def __init__(self, config: Config, prepared: Prepared) -> None:
        self._config = config
        self._prepared = prepared
        self._monitor = prepared.monitor
        self._length = timedelta(seconds=prepared.settings.size_seconds)

    def follow(self, connection: Connection, done: Committed) -> None:
        """Fold the monitor's windows and announce what changed."""
        name = self._monitor.name
        back = max(LOOK_BACK * self._length, ROLLED_BACK if self._monitor.window.rollup else self._length)
        since = max(done.window.start - back, self._prepared.settings.start)
        known = [k for k in incidents.known_since(connection, name, since) if not is_beside(k.members)]
        windows = [WindowResults(w, found) for w, found in runs.results_since(connection, name, since)]
        going_on, openers, accepted = _from_before(known, windows, since)
        openers |= frozenset(incidents.tokens(connection, name))
        accepted += [Accepted(a.family, a.until, reason_of(a.kind)) for a in incidents.acceptances(connection, name) if a.until >= since]
        folded = fold(windows, policy_of(self._monitor, self._length), openers, accepted, going_on)
        transitions, matched = rules.diff(folded.episodes, known, since)
        created: dict[int, int] = {}
        for incident, current in matched.items():
            self._refresh(connection, incident, current, since)
        for transition in transitions:
            episode = transition.episode
            if transition.type == rules.FIRED and episode is not None:
                incident = self._create(connection, episode, done.now)
                created[id(episode)] = incident
            else:
                incident = transition.incident or created[id(episode)]
            if transition.type == rules.UPDATED and transition.why.startswith("open again"):
                incidents.update(connection, incident, state="open", closed_at=None, closed_window=None, reason="")
            if transition.type == rules.RESOLVED:
                ended = episode.closed if episode is not None else done.window.start
                incidents.update(
                    connection, incident, state="closed", closed_at=done.now, closed_window=ended, reason=transition.why
                )
            if transition.type == rules.WITHDRAWN:
                incidents.update(connection, incident, state="withdrawn", closed_at=done.now, reason=transition.why)
            if episode is not None and transition.type in (rules.FIRED, rules.UPDATED):
                self._rollback(connection, incident, episode, windows, done)
            self.announce(connection, incident, transition.type, done, transition.why)
        announced = {t.incident for t in transitions}
        for incident, current in matched.items():
            if incident not in announced and current.closed is None and self._rollback(connection, incident, current, windows, done):
                self.announce(connection, incident, rules.UPDATED, done, "rollback decided")
        incidents.save_alerts(connection, name, folded.rules, done.now)

    def held_back(self, connection: Connection, window: Window, section: dict[str, Any], now: datetime) -> None:
        """Say once, when drift begins to be held back for want of tokens, what is held back."""
        name = self._monitor.name
        if runs.watched(connection, name, window.start - max(WATCH_AGAIN, 2 * self._length), window.start):
            return
        payload, text = watch_notice(name, window, section, now)
        owner = self._config.owners[self._monitor.owner]
        for channel in owner.route("warn"):
            outbox.notice(connection, f"watch/{name}/{iso(window.start)}", channel, payload, text, now)

    def silence(self, connection: Connection, window: Window, now: datetime, since: datetime | None) -> None:
        """Announce that the source fell silent, or (``since`` None) that it speaks again."""
        self.beside(connection, SILENCE, window, now, f"no event since {iso(since)}" if since else "", why="events arrive again")

    def beside(
        self, connection: Connection, rule: str, window: Window, now: datetime, reason: str, severity: str = "fail", why: str = "resolved",
    ) -> int | None:
        """Announce what no window's results say: that ``rule`` is broken for that ``reason``, or (empty) that it holds again.

        Each is announced once; a graver ``severity`` is an update. Answers the open incident.
        """
        done = Committed(window, now, False)
        mine = next((r for r in incidents.listing(connection, "open", self._monitor.name) if r.members == [rule]), None)
        if not reason:
            if mine is not None:
                incidents.update(connection, mine.id, state="closed", closed_at=now, closed_window=window.end, reason="resolved")
                self.announce(connection, mine.id, rules.RESOLVED, done, why)
            return None
        result = RuleResult(rule, "service", severity, reason=reason)
        episode = Episode("service", window.start, window.start, Verdict(severity), {rule: result}, [window.start])
        if mine is None:
            incident = self._create(connection, episode, now)
            self.announce(connection, incident, rules.FIRED, done, "")
            return incident
        if mine.severity == "warn" and severity == "fail":
            incidents.update(connection, mine.id, **self._values(episode) | {"first_window": mine.first_window})
            self.announce(connection, mine.id, rules.UPDATED, done, "now fail")
        return int(mine.id)

    def released(self, connection: Connection, watched: Row[Any], window: Window, now: datetime, sentence: str, verdict: str) -> int | None:
        """What follows from the watch of a new version: an incident while it is worse than the old one, and a rollback proposal."""
        rule = deployment_rule(watched.version)
        if verdict == "insufficient":  # what was said of it stands
            return None
        if verdict != "fail":
            self.beside(connection, rule, window, now, "", why=sentence)
            return None
        reason = f"{watched.version} is worse than {watched.previous}: {sentence}"
        result = RuleResult(rule, "service", "fail", reason=reason)
        first = Window(watched.first_seen, window.end)
        episode = Episode("service", first.start, first.start, Verdict.FAIL, {rule: result}, [first.start])
        mine = [r for r in incidents.listing(connection, monitor=self._monitor.name) if r.members == [rule]]
        if any(r.state != "open" and r.reason != "resolved" for r in mine):
            return None  # a person has closed it: what they know of the release stands
        known = next((r.id for r in mine if r.state == "open"), None)
        incident = known or self._create(connection, episode, now)
        mode = self._monitor.rollback.effective_mode
        decided = False
        old = incidents.rollback_of(connection, incident)
        if mode != "off" and (old is None or old.state == "blocked"):
            since = max(now - ROLLED_BACK, self._prepared.settings.start)
            windows = [WindowResults(w, found) for w, found in runs.results_since(connection, self._monitor.name, since)]
            proposal = propose_release(
                self._evidence(connection, incident, episode, windows, now), watched.version, watched.previous, watched.first_seen, sentence
            )
            decided = self._decided(connection, incident, old, episode, proposal, mode, now)
        if known is None or decided:
            self.announce(connection, incident, rules.FIRED if known is None else rules.UPDATED, Committed(window, now, False), "" if known is None else "rollback decided")
        return incident

    # -- incidents

    def _values(self, episode: Episode) -> dict[str, Any]:
        members = [m for m in episode.members.values() if m.state != DRIVER]
        run_sentence = next((m.reason for m in members if m.rule == "drift"), "")
        return {
            "severity": str(episode.severity), "headline": messages.headline(episode.family, members, run_sentence),
            "first_window": episode.first, "last_window": episode.last, "windows": len(episode.windows),
            "members": list(episode.members), "facts": {"members": [asdict(m) for m in members], "sentence": run_sentence},
        }

    def _create(self, connection: Connection, episode: Episode, now: datetime) -> int:
        owner = "platform" if set(episode.members) <= PLATFORM_RULES else self._monitor.owner
        return incidents.create(
            connection, monitor=self._monitor.name, family=episode.family, state="open", owner=owner, opened_at=now, reason="",
            hold_by="", **self._values(episode),
        )

    def _refresh(self, connection: Connection, incident: int, episode: Episode, since: datetime) -> None:
        """Bring a known incident up to date; of one that began before the range, the earlier windows stay counted."""
        values = self._values(episode)
        values.pop("headline")
        old = incidents.get(connection, incident)
        if old.first_window < since:
            values["first_window"] = old.first_window
            values["windows"] = old.windows + sum(start > old.last_window for start in episode.windows)
            values["last_window"] = max(old.last_window, episode.last)
            values["members"] = list(dict.fromkeys([*old.members, *episode.members]))
        incidents.update(connection, incident, **values)

    def announce(self, connection: Connection, incident: int, kind: str, done: Committed, why: str) -> None:
        """Append to the announced log and put a message for every channel of the owner into the outbox."""
        row = incidents.get(connection, incident)
        facts = self._facts(connection, row, kind, done, why)

        def payload(sequence: int) -> dict[str, Any]:
            return messages.payload(_with(facts, sequence))

        sequence, body = incidents.append(connection, incident, kind, done.now, payload)
        owner = self._config.owners.get(row.owner) or self._config.owners[self._monitor.owner]
        text = messages.text(_with(facts, sequence))
        for channel in owner.route(row.severity):
            outbox.add(
                connection, incident=incident, sequence=sequence, destination=channel, kind="alert", payload=body, text=text,
                now=done.now,
            )

    def _facts(self, connection: Connection, row: Row[Any], kind: str, done: Committed, why: str) -> messages.Facts:
        start = row.last_window
        run = runs.current_run(connection, row.monitor, start)
        window = Window(run.start, run.end) if run is not None else done.window
        sections = run.sections if run is not None else {}
        drift = sections.get("drift") or {}
        rollback = incidents.rollback_of(connection, row.id)
        normal, unknown = self._others(row.family, sections)
        late = max(2 * self._length, timedelta(hours=24)) + self._prepared.lateness
        newest = done.window.end
        if done.labels:
            stored = runs.settings_of(connection, row.monitor)
            newest = (stored.newest_event if stored is not None else None) or newest
        monitor = self._monitor
        return messages.Facts(
            kind, row.id, 0, row.monitor, row.family, row.severity, row.owner, row.headline, window, row.first_window, done.now,
            why=why, members=[RuleResult(**m) for m in row.facts.get("members", [])],
            drivers=drift.get("drivers", []) if row.family == "drift" else [], normal=normal, unknown=unknown,
            rows=run.rows if run is not None else 0, versions=run.model_versions if run is not None else {},
            sentence=row.facts.get("sentence", ""),
            rollback=_rollback_facts(rollback) if rollback is not None else None,
            tokens=int(balance(monitor.drift.budget, incidents.tokens(connection, monitor.name), window.start)),
            runbook=monitor.runbook, public_url=self._config.public_url, report=report_name(monitor.name, window),
            delayed=done.now - newest > late,
            contract_change=runs.contract_change(connection, row.monitor, start) if row.family == "contract" else None,
        )

    @staticmethod
    def _others(family: str, sections: dict[str, Any]) -> tuple[list[str], list[str]]:
        normal, unknown = [], []
        for key in ("contract", "data", "drift", "quality", "service"):
            section = sections.get(key)
            if key == family or section is None:
                continue
            if section["verdict"] == "pass":
                normal.append(key)
            elif section["verdict"] not in ("warn", "fail"):
                unknown.append(f"{key} ({section.get('state') or section['verdict']})")
        return normal, unknown

    # -- rollback

    def _evidence(
        self, connection: Connection, incident: int, episode: Episode, windows: list[WindowResults], now: datetime,
    ) -> Evidence:
        monitor, config = self._monitor, self._monitor.rollback
        failing = tuple(rule for rule, result in episode.members.items() if result.verdict == "fail") or tuple(episode.members)
        first = windows[0].window.start if windows else episode.first
        by_start = {row.start: row for row in runs.recent_runs(connection, monitor.name, since=first)}
        witnesses = []
        for item in windows:
            row = by_start.get(item.window.start)
            if row is None:
                continue
            found = {r.rule: r.verdict for r in item.results if r.rule in failing}
            enough = all(r.n >= monitor.quality.min_rows for r in item.results if r.rule in failing and r.verdict == "fail")
            witnesses.append(Witness(item.window, dict(row.model_versions), row.verdict, found, row.rows, enough))
        past = [r for r in incidents.rollbacks(connection) if r.dispatched_at is not None]
        mine = [(r.dispatched_at, r.from_version, r.to_version) for r in reversed(past) if r.monitor == monitor.name]
        policy = policy_of(monitor, self._length)
        return Evidence(
            episode.family, str(episode.severity), failing, policy.fire, policy.clear, witnesses, now, self._length,
            self._prepared.lateness, config.attribution, config.cooldown, config.to_version, config.fallback,
            frozenset(config.bad_versions), mine, sum(now - r.dispatched_at < timedelta(days=1) for r in past),
            kill_switch(self._config), str(incidents.get(connection, incident).hold_by), compared=self._compared(connection, now),
        )

    def _compared(self, connection: Connection, now: datetime) -> Mapping[str, Any] | None:
        """The newest comparison of two versions that served together, where a window of the last days has one."""
        row = runs.section_before(connection, self._monitor.name, now, "quality")
        return row[1].get("compared") if row is not None else None

    def _rollback(
        self, connection: Connection, incident: int, episode: Episode, windows: list[WindowResults], done: Committed,
    ) -> bool:
        """Decide on a rollback for an open incident; True when it was decided just now."""
        config = self._monitor.rollback
        mode = config.effective_mode
        if mode == "off" or episode.closed is not None or episode.family not in FAMILIES:
            return False
        old = incidents.rollback_of(connection, incident)
        if old is not None and old.state != "blocked":
            return False
        if str(episode.severity) != "fail":
            return False
        proposal = propose(self._evidence(connection, incident, episode, windows, done.now))
        return self._decided(connection, incident, old, episode, proposal, mode, done.now)

    def _decided(
        self, connection: Connection, incident: int, old: Row[Any] | None, episode: Episode, proposal: Proposal, mode: str, now: datetime,
    ) -> bool:
        """Keep what the guards say; True when they allow it."""
        if not proposal.allowed:
            state, limit = "blocked", None
        else:
            state = {"dry_run": "dry_run", "approve": "awaiting_approval", "auto": "requested"}[mode]
            limit = not_after(now, self._length)
        self._save(connection, incident, old, episode, proposal, mode, state, now, limit)
        return state != "blocked"

    def _save(
        self, connection: Connection, incident: int, old: Row[Any] | None, episode: Episode, proposal: Proposal, mode: str,
        state: str, now: datetime, limit: datetime | None,
    ) -> None:
        name = self._monitor.name
        payload = {
            "type": "rollback.requested", "timestamp": iso(now),
            "data": {
                "incident": f"INC-{incident}", "monitor": name, "from_version": proposal.from_version,
                "to_version": proposal.to_version, "expected_current_version": proposal.from_version,
                "reason": messages.headline(episode.family, list(episode.members.values()), ""),
                "not_after": iso(limit) if limit else None, "dry_run": mode == "dry_run",
            },
        }
        detail = next((g.detail for g in proposal.guards if not g.passed), "every guard passed")
        webhook_id = outbox.idempotency_key(incident, 0, f"rollback:{name}")
        rollback = incidents.save_rollback(
            connection, old.id if old is not None else None, incident_id=incident, monitor=name, mode=mode, state=state,
            from_version=proposal.from_version, to_version=proposal.to_version, guards=[asdict(g) for g in proposal.guards],
            payload=payload, webhook_id=webhook_id, created_at=now, not_after=limit, detail=detail,
        )
        body = {"rollback": rollback, "incident": incident, "state": state, "guards": [asdict(g) for g in proposal.guards]}
        audit(connection, now, "driftd", f"rollback.{state}", body)
        if state == "requested":
            outbox.add(
                connection, incident=incident, sequence=0, destination=f"rollback:{name}", kind="rollback", payload=payload,
                text="", now=now, not_after=limit,
            )


def _from_before(
    known: Sequence[rules.Known], windows: Sequence[WindowResults], since: datetime,
) -> tuple[Begun | None, frozenset[datetime], list[Accepted]]:
    """What the fold must know of drift incidents that began before its range.

    Such an incident paid its token there: its first breach in the range opens without one, and none after that. It ends where it
    ended before, though fewer of its windows are in the range now.
    """
    earlier = [k for k in known if k.family == "drift" and k.first < since and k.state != "withdrawn"]
    ended = [Accepted("drift", k.closed, "resolved") for k in earlier if k.closed is not None and k.closed >= since]
    last = max(earlier, key=lambda k: k.last, default=None)
    if last is None or last.last < since:
        return None, frozenset(), ended
    inside = [
        w.window.start for w in windows if w.window.start <= last.last
        and any(r.rule == DRIFT_RULE and r.state != "watch" and r.verdict in ("warn", "fail") for r in w.results)
    ]
    return Begun(last.last, max(last.windows - len(inside), 1)), frozenset(inside[:1]), ended


def reason_of(kind: str) -> str:
    """Why an incident that a person accepted is closed."""
    return {"accept": "accepted", "false-alarm": "false alarm"}.get(kind, kind)


def deployment_rule(version: str) -> str:
    """The rule of a new version that is worse than the old one."""
    return f"{DEPLOYMENT}[{version}]"


def is_beside(members: Sequence[str]) -> bool:
    """Whether an incident is none of the fold's: it comes from looking, not from a window's results."""
    return all(m in (SILENCE, LABELS_LATE, LABELS_UNKNOWN) or m.startswith(f"{DEPLOYMENT}[") for m in members) and bool(members)


def _with(facts: messages.Facts, sequence: int) -> messages.Facts:
    from dataclasses import replace

    return replace(facts, sequence=sequence)


def _rollback_facts(row: Row[Any]) -> dict[str, Any]:
    return {
        "mode": row.mode, "state": row.state, "from_version": row.from_version, "to_version": row.to_version, "detail": row.detail,
        "not_after": iso(row.not_after) if row.not_after else None,
    }


def kill_switch(config: Config) -> bool:
    """Whether the file that stops every rollback is there."""
    return config.kill_switch is not None and (config.path.parent / config.kill_switch).exists()


def report_name(monitor: str, window: Window) -> str:
    """The file name of a window's report."""
    return f"{monitor}/{window.start:%Y-%m-%dT%H%MZ}.html"
