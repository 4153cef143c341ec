"""What follows from a commit, inside its transaction: fold, incidents, announcements, outbox rows, rollback decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.calibration.ledger import balance
from checks.core.result import Verdict
from checks.core.window import Window, iso
from monitor.alerting import incidents as rules
from monitor.alerting import messages
from monitor.alerting.drift import WATCH_AGAIN, watch_notice
from monitor.alerting.fold import DRIFT_RULE, DRIVER, FORGET_AFTER, REOPEN_WINDOWS, Accepted, Begun, Episode, WindowResults, fold
from monitor.alerting.retraction import passed_since, settled, unknown_for
from monitor.alerting.rollback import code_of, effect
from monitor.alerting.scopes import wait
from monitor.alerting.silences import silenced
from monitor.config.model import Config
from monitor.policy import policy_of
from monitor.ports import RuleResult
from monitor.posting import PLATFORM_RULES, Post, destinations, let_go, live_since, request_actions, send
from monitor.prepare import Prepared
from monitor.proposals import ROLLED_BACK, Proposals
from monitor.shared import Sources
from monitor.store import incidents, outbox, runs, silences
from monitor.store.store import audit

LOOK_BACK = 20
HOUR = timedelta(hours=1)
SILENCE, NO_DATA = "service.silence", "service.no_data"
UNWATCHED = "service.unwatched"
"""That driftd could not look at a monitor at all, several times in a row."""

LABELS_LATE, LABELS_UNKNOWN = "service.labels_late", "service.labels_unknown"
DEPLOYMENT = "service.deployment"


@dataclass(frozen=True, slots=True)
class Committed:
    """What was just committed: a window's run, or (``labels``) a recount of its labels, or nothing of a window at all.

    ``due`` says that a window was evaluated in its turn: what an old one says waits until the monitor has caught up.
    """

    window: Window
    now: datetime
    labels: bool
    due: bool = False


class Announcer:
    """Brings what is announced of one monitor in line with what its results say."""

    def __init__(self, config: Config, prepared: Prepared) -> None:
        self._config = config
        self._prepared = prepared
        self._monitor = prepared.monitor
        self._length = timedelta(seconds=prepared.settings.size_seconds)
        self._proposals = Proposals(config, prepared)

    def follow(self, connection: Connection, done: Committed) -> None:
        """Fold the monitor's windows and announce what changed."""
        name = self._monitor.name
        policy = policy_of(self._monitor, self._length)
        count = max(LOOK_BACK, max(policy.clear, policy.contract_clear) + policy.fire[1] + 5)
        back = max(count * self._length, ROLLED_BACK if self._monitor.window.rollup else self._length)
        since = max(done.window.start - back, self._prepared.settings.start)
        known = [k for k in incidents.known_since(connection, name, since) if not is_beside(k.members)]
        verified = incidents.rollbacks(connection, name, ("verified",))
        also = {m for k in known for m in k.members} | {m for r in verified for m in incidents.get(connection, r.incident_id).members}
        windows = [WindowResults(w, found) for w, found in runs.results_since(connection, name, since, also)]
        going_on, openers, accepted = _from_before(known, windows, since)
        openers |= frozenset(incidents.tokens(connection, name))
        accepted += [Accepted(a.family, a.until, reason_of(a.kind)) for a in incidents.acceptances(connection, name) if a.until >= since]
        openers |= _earlier(known, windows)
        folded = fold(windows, policy, openers, accepted, going_on)
        unsure = frozenset(k.id for k in known if not settled(k.first, k.last, k.members, windows))
        over = frozenset(k.id for k in known if passed_since(k.last, k.members, windows) >= policy.clear_of(k.family))
        lost = frozenset(k.id for k in known if unknown_for(k.members, windows) >= FORGET_AFTER)
        transitions, matched = rules.diff(folded.episodes, known, since, unsure, over, lost)
        created: dict[int, int] = {}
        for row in incidents.several(connection, matched):
            self._refresh(connection, row, matched[row.id], since)
        for transition in transitions:
            episode = transition.episode
            if transition.type == rules.FIRED and episode is not None:
                incident = self._create(connection, episode, done.now)
                created[id(episode)] = incident
            else:
                incident = transition.incident or created[id(episode)]
            again = transition.type == rules.UPDATED and transition.why.startswith("open again")
            if again:
                incidents.update(connection, incident, state="open", closed_at=None, closed_window=None, reason="")
            if episode is not None and (again or (transition.type == rules.UPDATED and transition.why == "now fail")):
                incidents.update(connection, incident, **UNHEARD, fail_since=done.now if episode.severity is Verdict.FAIL else None)
                Sources(self._config).speak_again(connection, incident)
            if transition.type == rules.RESOLVED:
                ended = episode.closed if episode is not None else done.window.start
                incidents.update(
                    connection, incident, state="closed", closed_at=done.now, closed_window=ended, reason=transition.why
                )
            if transition.type == rules.WITHDRAWN:
                incidents.update(connection, incident, state="withdrawn", closed_at=done.now, reason=transition.why)
            if episode is not None and transition.type in (rules.FIRED, rules.UPDATED):
                self._proposals.consider(connection, incident, windows, done.now)
            more = transition.type == rules.UPDATED and transition.why.startswith("also ")
            if not (more and episode is not None and episode.flapping and self._said(connection, incident, done.now)):
                self.announce(connection, incident, transition.type, done, transition.why)
        announced = {t.incident for t in transitions}
        for incident, current in matched.items():
            if incident not in announced and current.closed is None and self._proposals.consider(connection, incident, windows, done.now):
                self.announce(connection, incident, rules.UPDATED, done, "rollback decided")
        incidents.save_alerts(connection, name, folded.rules, done.now)
        for incident, why in self._effects(connection, verified, windows, done.now):
            self.announce(connection, incident, rules.UPDATED, done, why)
        if transitions:
            Sources(self._config).gather(connection, name, done.now, self._length)

    @staticmethod
    def _said(connection: Connection, incident: int, now: datetime) -> bool:
        """Whether anything of an incident that flaps was said within the hour, other than that it got graver."""
        last = incidents.last_said(connection, incident)
        return last is not None and now - last < HOUR

    def _effects(self, connection: Connection, verified: Sequence[Row[Any]], windows: Sequence[WindowResults], now: datetime) -> list[tuple[int, str]]:
        """Verification B: after a verified rollback, whether what it was for is within limits again."""
        found = []
        policy = policy_of(self._monitor, self._length)
        for row in verified:
            incident = incidents.get(connection, row.incident_id)
            members = {m["rule"] for m in incident.facts.get("members", []) if m["verdict"] == "fail"} or set(incident.members)
            state, detail = effect(windows, members, row.confirmed_at, policy.clear_of(incident.family), self._monitor.quality.min_rows)
            if state and incidents.move_rollback(connection, row, state=state, detail=detail):
                audit(connection, now, "driftd", f"rollback.{state}", {"rollback": row.id, "incident": row.incident_id, "detail": detail})
                found.append((row.incident_id, f"rollback {state.replace('_', ' ')}: {detail}"))
        return found

    def held_back(self, connection: Connection, window: Window, section: dict[str, Any], now: datetime) -> None:
        """Say once, when drift begins to be held back for want of tokens, what is held back."""
        name = self._monitor.name
        if runs.watched(connection, name, window.start - max(WATCH_AGAIN, 2 * self._length), window.start):
            return
        payload, text = watch_notice(name, window, section, now)
        owner = self._config.owners[self._monitor.owner]
        quiet = silenced(silences.current(connection, now), name, "drift", None, now)
        for channel in owner.route("warn"):
            held = f"silence:{quiet.id}" if quiet is not None else ""
            outbox.notice(connection, f"watch/{name}/{iso(window.start)}", channel, payload, text, now, held)

    def silence(self, connection: Connection, window: Window, now: datetime, since: datetime | None, why: str = "events arrive again") -> None:
        """Announce that the source fell silent, or (``since`` None) that it does not matter any more, and ``why``."""
        self.beside(connection, SILENCE, window, now, f"no event since {iso(since)}" if since else "", why=why)

    def beside(
        self, connection: Connection, rule: str, window: Window, now: datetime, reason: str, severity: str = "fail", why: str = "resolved",
    ) -> int | None:
        """Announce what no window's results say: that ``rule`` is broken for that ``reason``, or (empty) that it holds again.

        Each is announced once; a graver ``severity`` is an update. Answers the open incident.
        """
        done = Committed(window, now, False)
        same = [r for r in incidents.listing(connection, monitor=self._monitor.name) if r.members == [rule]]
        mine = next((r for r in same if r.state == "open"), None)
        if not reason:
            if mine is None and same and same[0].facts.get("closed_by_hand"):
                incidents.update(connection, same[0].id, facts={**same[0].facts, "closed_by_hand": False})
            if mine is not None:
                incidents.update(connection, mine.id, state="closed", closed_at=now, closed_window=window.end, reason="resolved")
                self.announce(connection, mine.id, rules.RESOLVED, done, why)
            return None
        if mine is None and same and same[0].facts.get("closed_by_hand"):
            return None  # a person has closed it: it is not said again before it was over once
        result = RuleResult(rule, "service", severity, reason=reason)
        episode = Episode("service", window.start, window.start, Verdict(severity), {rule: result}, [window.start])
        if mine is None:
            last = same[0] if same and same[0].state == "closed" and same[0].reason == "resolved" else None
            if last is not None and last.closed_at is not None and now - last.closed_at < REOPEN_WINDOWS * self._length:
                incident, kind, news = int(last.id), rules.UPDATED, "open again: it comes and goes"
                values = self._values(episode) | {"first_window": last.first_window, "windows": last.windows + 1, "since": window.start}
                incidents.update(
                    connection, incident, **values, **UNHEARD, state="open", closed_at=None, closed_window=None, reason="",
                    fail_since=now if severity == "fail" else None, parent_id=None,
                )
            else:
                incident, kind, news = self._create(connection, episode, now), rules.FIRED, ""
            self.announce(connection, incident, kind, done, news)
            Sources(self._config).gather(connection, self._monitor.name, now, self._length)
            return incident
        if mine.severity == "warn" and severity == "fail":
            incidents.update(connection, mine.id, **self._values(episode) | {"first_window": mine.first_window}, **UNHEARD, fail_since=now)
            self.announce(connection, mine.id, rules.UPDATED, done, "now fail")
            Sources(self._config).gather(connection, self._monitor.name, now, self._length)
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
        decided = self._proposals.consider_release(connection, incident, watched, sentence, now)
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
            "flapping": int(episode.flapping), "since": episode.since,
        }

    def _create(self, connection: Connection, episode: Episode, now: datetime) -> int:
        owner = "platform" if set(episode.members) <= PLATFORM_RULES else self._monitor.owner
        parent = None
        if set(episode.members) == {NO_DATA}:  # an empty window of a source that is known to be silent: that incident speaks for it
            open_now = incidents.open_of(connection, [self._monitor.name])
            parent = next((r.id for r in open_now if r.members == [SILENCE]), None)
        return incidents.create(
            connection, parent_id=parent, monitor=self._monitor.name, family=episode.family, state="open", owner=owner, opened_at=now, reason="",
            hold_by="", fail_since=now if episode.severity is Verdict.FAIL else None, **self._values(episode),
        )

    def _refresh(self, connection: Connection, old: Row[Any], episode: Episode, since: datetime) -> None:
        """Bring a known incident up to date; of one that began before the range, the earlier windows stay counted."""
        values = self._values(episode)
        if old.owner == "platform" and not set(episode.members) <= PLATFORM_RULES:
            values["owner"] = self._monitor.owner  # it is the model's now, and its headline says what of it
        elif old.severity == values["severity"]:
            values.pop("headline")
        if old.first_window < since:
            values["first_window"] = old.first_window
            values["windows"] = old.windows + sum(start > old.last_window for start in episode.windows)
            values["last_window"] = max(old.last_window, episode.last)
            values["members"] = list(dict.fromkeys([*old.members, *episode.members]))
        changed = {key: value for key, value in values.items() if getattr(old, key) != value}
        if changed:  # of most incidents nothing is
            incidents.update(connection, old.id, **changed)

    def announce(self, connection: Connection, incident: int, kind: str, done: Committed, why: str) -> None:
        """Append to the announced log and put a message for every channel of the owner into the outbox."""
        row = incidents.get(connection, incident)
        facts = self._facts(connection, row, kind, done, why)
        before = incidents.last_said(connection, incident)
        sequence, body = incidents.append(connection, incident, kind, done.now, lambda number: messages.payload(replace(facts, sequence=number)))
        text = messages.text(replace(facts, sequence=sequence))
        post = Post(row, kind, sequence, body, text, done.now)
        post_at = self._post_at(kind, why, before, done.now)
        ended = self._prepared.end is not None and self._prepared.end <= done.now
        held = f"catchup:{row.monitor}" if done.due and facts.delayed and not ended else ""
        send(connection, self._config, post, destinations(connection, self._config, row, self._monitor.owner), post_at, held)
        if post_at <= done.now:
            outbox.hasten(connection, incident, done.now)
        if kind in (rules.FIRED, rules.UPDATED):
            request_actions(connection, self._monitor, row, done.now, (facts.window.start, facts.window.end))

    def _post_at(self, kind: str, why: str, before: datetime | None, now: datetime) -> datetime:
        """When a message may leave: that of a shared source waits for its siblings, new members for the group interval."""
        if (kind == rules.FIRED or why.startswith("open again")) and len(self._config.sharing(self._monitor.name)) > 1:
            return now + wait(self._length)
        if kind == rules.UPDATED and why.startswith("also ") and before is not None:
            return max(now, before + wait(self._length))
        return now

    def caught_up(self, connection: Connection, now: datetime) -> None:
        """After a look has done all that was due: let go what waited for it, as one summary of what came and went."""
        let_go(connection, self._config, f"catchup:{self._monitor.name}", f"while {self._monitor.name} was catching up", now)

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
            kind, row.id, 0, row.monitor, row.family, row.severity, row.owner, row.headline, window, row.since or row.first_window, done.now,
            why=why, members=[RuleResult(**m) for m in row.facts.get("members", [])],
            drivers=drift.get("drivers", []) if row.family == "drift" else [], normal=normal, unknown=unknown,
            rows=run.rows if run is not None else 0, versions=run.model_versions if run is not None else {},
            sentence=row.facts.get("sentence", ""),
            rollback=_rollback_facts(rollback) if rollback is not None else None,
            tokens=int(balance(monitor.drift.budget, incidents.tokens(connection, monitor.name), window.start)) if row.family == "drift" else None,
            runbook=monitor.runbook, public_url=self._config.public_url, report=report_name(monitor.name, window),
            delayed=kind != "incident.reminder" and done.now - newest > late, live_since=live_since(runs.served(connection, row.monitor)),
            flapping=bool(row.flapping), opened_at=row.opened_at, others=[
                f"INC-{o.id} ({o.family})" for o in incidents.open_of(connection, [row.monitor])
                if o.id != row.id and o.family in ("contract", "data") and row.family not in ("contract", "data") and o.last_window >= row.first_window
            ],
            state=row.state, rollback_mode=monitor.rollback.effective_mode,
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
            elif section["verdict"] not in ("warn", "fail") or section.get("inhibited"):
                unknown.append(f"{key} ({section.get('state') or section['verdict']})")
        return normal, unknown


UNHEARD: dict[str, Any] = {"acked_by": "", "acked_at": None, "escalated_at": None, "reminders": 0, "reminded_at": None}
"""Of an incident that got graver, or came back: whoever acknowledged it acknowledged something else."""


def _earlier(known: Sequence[rules.Known], windows: Sequence[WindowResults]) -> frozenset[datetime]:
    """Windows just before a drift incident that came late and would have opened it: its token pays for them."""
    found: set[datetime] = set()
    for incident in known:
        if incident.family != "drift" or incident.state == "withdrawn":
            continue
        for item in reversed([w for w in windows if w.window.start < incident.first]):
            if not any(r.rule == DRIFT_RULE and r.state != "watch" and r.verdict in ("warn", "fail") for r in item.results):
                break
            found.add(item.window.start)
    return frozenset(found)


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
    return {"accept": "accepted", "false-alarm": "false alarm", "resolve": "resolved by hand"}.get(kind, kind)


def deployment_rule(version: str) -> str:
    """The rule of a new version that is worse than the old one."""
    return f"{DEPLOYMENT}[{version}]"


def is_beside(members: Sequence[str]) -> bool:
    """Whether an incident is none of the fold's: it comes from looking, not from a window's results."""
    return all(m in (SILENCE, LABELS_LATE, LABELS_UNKNOWN, UNWATCHED) or m.startswith(f"{DEPLOYMENT}[") for m in members) and bool(members)


def _rollback_facts(row: Row[Any]) -> dict[str, Any]:
    return {
        "code": code_of(row.payload_hash) if row.state == "awaiting_approval" else None, "expires": iso(row.expires_at) if row.expires_at else None,
        "mode": row.mode, "state": row.state, "from_version": row.from_version, "to_version": row.to_version, "detail": row.detail,
        "not_after": iso(row.not_after) if row.not_after else None,
    }


def report_name(monitor: str, window: Window) -> str:
    """The file name of a window's report."""
    return f"{monitor}/{window.start:%Y-%m-%dT%H%MZ}.html"
