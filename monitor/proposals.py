"""Rollback decisions from what the store holds: the evidence, the guards' answers, and what is kept of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.core.window import iso
from monitor.alerting.fold import WindowResults
from monitor.alerting.rollback import (
    FAMILIES,
    Evidence,
    Proposal,
    Witness,
    code_of,
    not_after,
    payload_hash,
    propose,
    propose_release,
)
from monitor.alerting.scopes import wait
from monitor.alerting.silences import silenced
from monitor.config.model import Config, MonitorConfig
from monitor.policy import policy_of
from monitor.prepare import Prepared
from monitor.store import deployments, incidents, outbox, runs, silences
from monitor.store.store import audit

ROLLED_BACK = timedelta(days=16)
"""How far back a rollback's evidence goes, and results are folded where drift is decided once a day."""

NO_ROLLBACK = "DRIFTD_NO_ROLLBACK"
AGAIN = ("blocked", "expired", "cancelled")
"""States of a rollback that was never sent: the next window may propose it anew."""


def outputs(monitor: MonitorConfig) -> frozenset[str]:
    """The columns that the model puts out: prediction, score and version."""
    return frozenset(c for c in (monitor.columns.prediction, monitor.columns.score, monitor.columns.version) if c)


def kill_switch(config: Config, connection: Connection) -> str:
    """Which switch stops every rollback: the file, the environment or the database; empty if none."""
    if config.kill_switch is not None:
        try:
            if (config.path.parent / config.kill_switch).exists():
                return f"the file {config.kill_switch} is there"
        except OSError as error:  # whoever put it out of sight may have meant it
            return f"whether the file {config.kill_switch} is there cannot be seen: {error.strerror}"
    if os.environ.get(NO_ROLLBACK, "") not in ("", "0"):
        return f"{NO_ROLLBACK} is set"
    said = incidents.switch(connection)
    return f"set in the store by {said}" if said else ""


class Proposals:
    """Proposes rollbacks of one monitor and keeps what the guards say."""

    def __init__(self, config: Config, prepared: Prepared) -> None:
        self._config, self._prepared = config, prepared
        self._monitor = prepared.monitor
        self._length = timedelta(seconds=prepared.settings.size_seconds)

    def windows(self, connection: Connection, row: Row[Any], now: datetime) -> list[WindowResults]:
        """The results that a decision on that incident rests on."""
        since = max(now - max(ROLLED_BACK, 20 * self._length), self._prepared.settings.start)
        return [WindowResults(w, found) for w, found in runs.results_since(connection, self._monitor.name, since, row.members)]

    def concerns(self, family: str, columns: Sequence[str | None]) -> bool:
        """Whether an incident is one that a rollback can be considered for."""
        return family in FAMILIES or bool(outputs(self._monitor) & {c for c in columns if c})

    def consider(self, connection: Connection, incident: int, windows: Sequence[WindowResults], now: datetime) -> bool:
        """Propose a rollback for an open incident unless one was sent or refused; True when it was decided just now."""
        mode = self._monitor.rollback.effective_mode
        row = incidents.get(connection, incident)
        members = row.facts.get("members", [])
        if mode == "off" or row.severity != "fail" or row.state != "open":
            return False
        if not self.concerns(row.family, [m.get("column") for m in members]):
            return False
        old = incidents.rollback_of(connection, incident)
        if old is not None and (old.state not in AGAIN or old.posts):
            return False
        return self._decided(connection, row, old, propose(self.evidence(connection, row, windows, now)), mode, now)

    def consider_release(self, connection: Connection, incident: int, watched: Row[Any], sentence: str, now: datetime) -> bool:
        """Propose to leave a version that its watch found to be worse."""
        mode = self._monitor.rollback.effective_mode
        old = incidents.rollback_of(connection, incident)
        if mode == "off" or (old is not None and (old.state not in AGAIN or old.posts)):
            return False
        row = incidents.get(connection, incident)
        return self._decided(connection, row, old, self._release(connection, row, watched, sentence, now), mode, now)

    def again(self, connection: Connection, incident: int, now: datetime) -> Proposal:
        """What the guards say now, from fresh evidence: before a request leaves, and before an approval counts."""
        row = incidents.get(connection, incident)
        watched = deployments.of_incident(connection, incident)
        if watched is not None:
            return self._release(connection, row, watched, str(watched.body.get("sentence", "")), now)
        return propose(self.evidence(connection, row, self.windows(connection, row, now), now))

    def _release(self, connection: Connection, row: Row[Any], watched: Row[Any], sentence: str, now: datetime) -> Proposal:
        evidence = self.evidence(connection, row, self.windows(connection, row, now), now)
        return propose_release(evidence, watched.version, watched.previous, watched.first_seen, sentence)

    def evidence(self, connection: Connection, row: Row[Any], windows: Sequence[WindowResults], now: datetime) -> Evidence:
        """Everything that the guards look at, of one incident."""
        monitor, config = self._monitor, self._monitor.rollback
        members = row.facts.get("members", [])
        failing = tuple(m["rule"] for m in members if m["verdict"] == "fail") or tuple(row.members)
        first = windows[0].window.start if windows else row.first_window
        by_start = {run.start: run for run in runs.recent_runs(connection, monitor.name, since=first)}
        policy, witnesses = policy_of(monitor, self._length), []
        own = [policy.fire_of(r) for item in windows for r in item.results if r.rule in failing and r.verdict == "fail"]
        for item in windows:
            run = by_start.get(item.window.start)
            if run is None:
                continue
            found = {r.rule: r.verdict for r in item.results if r.rule in failing}
            enough = all(r.n >= monitor.quality.min_rows for r in item.results if r.rule in failing and r.verdict == "fail")
            witnesses.append(Witness(item.window, dict(run.model_versions), run.verdict, found, run.rows, enough))
        past = [r for r in incidents.rollbacks(connection) if r.dispatched_at is not None and r.incident_id != row.id]
        mine = [(r.dispatched_at, r.from_version, r.to_version) for r in reversed(past) if r.monitor == monitor.name]
        columns = {m.get("column") for m in members if m["verdict"] == "fail"}
        if row.family == "drift":
            columns = {name[6:-1] for name in row.members if name.startswith("drift[")}
        held = silenced([s for s in silences.current(connection, now) if s.maintenance], monitor.name, row.family, row.id, now)
        opened = incidents.open_of(connection, [monitor.name])
        holder = next((f"{r.hold_by} (on INC-{r.id})" for r in opened if r.hold_by and r.id != row.id), "")
        refused = frozenset(
            (r.from_version, r.to_version) for r in incidents.rollbacks(connection, monitor.name, ("rejected",)) if r.decided_at is None or now - r.decided_at < config.attribution
        )
        waiting = next((r for r in incidents.rollbacks(connection, monitor.name) if r.state == "awaiting_approval" and r.incident_id != row.id), None)
        return Evidence(
            row.family, row.severity, failing, max(own, default=policy.fire), policy.clear, witnesses, now, self._length, self._prepared.lateness,
            config.attribution, config.cooldown, config.to_version, config.fallback, frozenset(config.bad_versions), mine,
            sum(now - r.dispatched_at < timedelta(days=1) for r in past), bool(kill_switch(self._config, connection)), str(row.hold_by) or holder, refused=refused,
            compared=self._compared(connection, now), on_output=bool(columns) and columns <= outputs(monitor) | {"(prediction)", "(score)"},
            maintenance=f"{held.reason} ({held.author})" if held is not None else "",
            pending=f"INC-{waiting.incident_id}" if waiting is not None else "",
            source_incident=f"INC-{row.parent_id}" if incidents.spoken_for(connection, row) else "",
        )

    def _compared(self, connection: Connection, now: datetime) -> Mapping[str, Any] | None:
        """The newest comparison of two versions that served together, where a window of the last days has one."""
        row = runs.section_before(connection, self._monitor.name, now, "quality")
        return row[1].get("compared") if row is not None else None

    def _decided(
        self, connection: Connection, incident: Row[Any], old: Row[Any] | None, proposal: Proposal, mode: str, now: datetime,
    ) -> bool:
        """Keep what the guards say; True when they allow it."""
        state, limit, expires = "blocked", None, None
        if proposal.allowed:
            state = {"dry_run": "dry_run", "approve": "awaiting_approval", "auto": "requested"}[mode]
            limit = not_after(now, self._length)
            expires = now + self._monitor.rollback.approve_within if state == "awaiting_approval" else None
        data = {
            "incident": f"INC-{incident.id}", "monitor": self._monitor.name, "from_version": proposal.from_version,
            "to_version": proposal.to_version, "expected_current_version": proposal.from_version, "reason": incident.headline,
            "not_after": iso(limit) if limit else None, "dry_run": mode == "dry_run",
        }
        digest = payload_hash({**data, "proposed_at": iso(now)})
        failed = next((g.detail for g in proposal.guards if not g.passed), "")
        detail = failed or ("every guard passed" if expires is None else f"approve with: driftd rollback approve INC-{incident.id} {code_of(digest)}")
        if old is not None and state == "blocked" and old.state == "blocked" and [g["passed"] for g in old.guards] == [g.passed for g in proposal.guards]:
            incidents.save_rollback(connection, old.id, guards=[asdict(g) for g in proposal.guards], detail=detail)
            return False  # nothing has changed that the audit log would want to know
        if old is not None and not incidents.move_rollback(connection, old, detail=old.detail):
            return False  # somebody has decided on it in the meantime
        rollback = incidents.save_rollback(
            connection, old.id if old is not None else None, incident_id=incident.id, monitor=self._monitor.name, mode=mode, state=state,
            from_version=proposal.from_version, to_version=proposal.to_version, guards=[asdict(g) for g in proposal.guards],
            payload={"type": "rollback.requested", "timestamp": iso(now), "data": data}, payload_hash=digest,
            webhook_id=outbox.idempotency_key(incident.id, self._number(connection, incident.id), f"rollback:{self._monitor.name}"),
            created_at=now, not_after=limit, expires_at=expires, decided_by="", decided_at=None, detail=detail,
        )
        audit(connection, now, "driftd", f"rollback.{state}", {
            "rollback": rollback, "incident": incident.id, "state": state, "payload": digest, "guards": [asdict(g) for g in proposal.guards],
        })
        if state == "requested":
            self.request(connection, incident.id, now)
        return state != "blocked"

    @staticmethod
    def _number(connection: Connection, incident: int) -> int:
        return outbox.rollback_requests(connection, incident)

    def request(self, connection: Connection, incident: int, now: datetime) -> None:
        """Put the request of a decided rollback into the outbox; where others share the source, it waits for what they say."""
        row = incidents.rollback_of(connection, incident)
        assert row is not None
        shared = len(self._config.sharing(self._monitor.name)) > 1
        outbox.add(
            connection, incident=incident, sequence=self._number(connection, incident), destination=f"rollback:{row.monitor}", kind="rollback",
            payload=row.payload, text="", now=now, not_after=row.not_after, next_at=now + wait(self._length) if shared else now,
        )
