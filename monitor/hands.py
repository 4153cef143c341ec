"""A person's hand on an incident or a rollback: acknowledge, hold, silence, resolve, approve, reject."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.core.errors import ConfigError
from checks.core.window import format_duration, iso
from monitor.alerting.incidents import RESOLVED, UPDATED
from monitor.alerting.rollback import code_of, not_after
from monitor.alerting.silences import check
from monitor.announce import is_beside
from monitor.config.model import Config
from monitor.handle import number_of
from monitor.pipeline import Pipeline
from monitor.posting import quiet_for, say_plainly
from monitor.proposals import Proposals, kill_switch
from monitor.shared import Sources
from monitor.store import incidents, outbox, runs, silences
from monitor.store.store import DISPATCH, Store, audit, one_at_a_time
from monitor.upkeep import say

PENDING = ("requested", "dispatched", "accepted", "unknown", "awaiting_approval")


def find(connection: Connection, text: str) -> Row[Any]:
    """The incident of that name, kept from others until commit; `ConfigError` when there is none."""
    row = incidents.locked(connection, number_of(text))
    if row is None:
        raise ConfigError(f"there is no incident INC-{number_of(text)}; see driftd incidents")
    return row


def _open(connection: Connection, text: str) -> Row[Any]:
    row = find(connection, text)
    if row.state != "open":
        raise ConfigError(f"INC-{row.id} is {row.state} ({row.reason or 'over'}): nothing of it is left to act on")
    return row


def pending_rollback(connection: Connection, incident: int) -> str:
    """A rollback that is under way, in words: where from and to, its state, and until when it may leave; empty if none."""
    row = incidents.rollback_of(connection, incident)
    if row is None or row.state not in PENDING:
        return ""
    limit = row.expires_at if row.state == "awaiting_approval" else row.not_after
    until = f", until {iso(limit.replace(microsecond=0))}" if limit is not None and row.state in ("requested", "awaiting_approval") else ""
    return f"rollback from {row.from_version} to {row.to_version} is {row.state.replace('_', ' ')}{until}; driftd hold INC-{incident} stops it before it is sent"


def acknowledge(store: Store, text: str, author: str, now: datetime) -> str:
    """Somebody looks at it: no more reminders, no escalation. Nothing else stops, a rollback least of all."""
    with store.write() as connection:
        row = _open(connection, text)
        incidents.update(connection, row.id, acked_by=author, acked_at=now)
        audit(connection, now, author, "incident.ack", {"incident": row.id})
        pending = pending_rollback(connection, row.id)
    before = f" (before: {row.acked_by})" if row.acked_by else ""
    return f"INC-{row.id} acknowledged by {author}{before}: no more reminders; it stays open" + (f"\n{pending}" if pending else "\nno rollback is pending")


def hold(store: Store, text: str, author: str, now: datetime, *, release: bool = False, config: Config | None = None) -> str:
    """Stop the rollbacks of an incident's model before they are sent, or (``release``) let them be proposed again.

    With a ``config`` those who were told of one that waited are told that it does not leave.
    """
    with store.write() as connection:
        row = _open(connection, text)
        incidents.update(connection, row.id, hold_by="" if release else author)
        audit(connection, now, author, "incident.release" if release else "incident.hold", {"incident": row.id})
        if release:
            return f"INC-{row.id}: the hold is lifted; the next window may propose a rollback"
        if not incidents.rollbacks(connection, row.monitor):
            return f"INC-{row.id} held by {author}: no rollback of {row.monitor} was considered; none will be sent while it is held"
        stopped, sent = [], []
        for known in incidents.rollbacks(connection, row.monitor, PENDING):  # those of the model's other incidents go the same way
            if known.state not in ("requested", "awaiting_approval"):
                sent.append(f"the one of INC-{known.incident_id} has been sent already ({known.state}): look at {known.to_version}")
            elif incidents.move_rollback(connection, known, state="cancelled", detail=f"held by {author}"):
                outbox.cancel_rollback(connection, known.incident_id, f"held by {author}")
                audit(connection, now, author, "rollback.cancelled", {"rollback": known.id, "incident": known.incident_id, "detail": f"held by {author}"})
                stopped.append(f"the rollback of INC-{known.incident_id} from {known.from_version} to {known.to_version} is not sent")
                if config is not None:
                    say_plainly(connection, config, incidents.get(connection, known.incident_id), UPDATED, f"rollback cancelled: held by {author}", now)
            else:
                sent.append(f"the one of INC-{known.incident_id} has just been sent: look at {known.to_version}")
        if stopped or sent:
            return f"INC-{row.id} held by {author}: " + "; ".join([*stopped, *sent])
    return f"INC-{row.id} held by {author}: no rollback of {row.monitor} is sent while it is held"


def silence(
    store: Store, config: Config, target: str, length: timedelta, reason: str, author: str, now: datetime, *, maintenance: bool = False,
) -> str:
    """Let messages wait: of an incident (INC-3), of a monitor, or of ``all``; maintenance stops rollbacks, too."""
    check(length, reason, author)
    with store.write() as connection:
        if maintenance:
            one_at_a_time(connection, DISPATCH)
        values: dict[str, Any] = {"monitor": target, "family": None, "incident_id": None}
        if target.upper().startswith("INC-"):
            row = _open(connection, target)
            values = {"monitor": row.monitor, "family": row.family, "incident_id": row.id}
        elif target == "all":
            values["monitor"] = "*"
        else:
            config.monitor(target)
        number = silences.add(
            connection, author=author, reason=reason, starts_at=now, ends_at=now + length, kind="maintenance" if maintenance else "silence",
            ended_at=None, **values,
        )
        begun = silences.current(connection, now)
        for each in incidents.listing(connection, "open"):
            if (found := quiet_for([s for s in begun if s.id == number], each, now)) is not None:
                outbox.hold(connection, each.id, f"silence:{found.id}")
        audit(connection, now, author, "silence.begin", {"silence": number, "reason": reason, "until": iso(now + length), **values})
        waiting = [] if maintenance else [r for r in incidents.listing(connection, "open") if quiet_for([s for s in begun if s.id == number], r, now) is not None]
        pending = "\n".join(text for r in waiting if (text := pending_rollback(connection, r.id)))
    what = "maintenance" if maintenance else "silence"
    end = f"{what} {number} of {target} for {format_duration(length)}, until {iso((now + length).replace(microsecond=0))}: evaluation goes on, messages wait"
    return end + ("; no rollback is sent" if maintenance else "") + (f"\n{pending}" if pending else "")


def unsilence(store: Store, number: int, author: str, now: datetime) -> str:
    """Let a silence end now; the daemon then sends what still matters."""
    with store.write() as connection:
        if not silences.shorten(connection, number, now):
            raise ConfigError(f"there is no silence {number} that still lasts; see driftd silences")
        audit(connection, now, author, "silence.end", {"silence": number})
    return f"silence {number} ends now: what still fires and changed is sent, what came and went is one line"


def resolve(pipeline: Pipeline, text: str, author: str, reason: str) -> str:
    """Close an incident by hand; a later breach opens a new one."""
    assert pipeline.store is not None
    now = pipeline.clock.now()
    with pipeline.store.write() as connection:
        row = _open(connection, text)
        why = f"resolved by {author}" + (f": {reason}" if reason else "")
        newest = runs.recent_runs(connection, row.monitor, since=row.first_window, limit=1)
        until = max(row.last_window, newest[0].start) if newest else row.last_window
        values: dict[str, Any] = {"state": "closed", "closed_at": now, "closed_window": until, "reason": "resolved by hand"}
        if row.scope == "source":
            incidents.update(connection, row.id, **values)
            Sources(pipeline.config).announce(connection, row.id, RESOLVED, now, why, now)
            for child in incidents.children(connection, row.id):
                if child.state == "open":  # each speaks for itself again
                    incidents.update(connection, child.id, parent_id=None)
                    say(connection, pipeline, incidents.get(connection, child.id), UPDATED, f"goes on by itself: INC-{row.id} of the source was {why}", now)
        elif row.scope != "monitor" or is_beside(row.members):
            incidents.update(connection, row.id, **values, facts={**row.facts, "closed_by_hand": True})
            say(connection, pipeline, row, RESOLVED, why, now)
        else:
            incidents.accept(
                connection, monitor=row.monitor, incident_id=row.id, family=row.family, kind="resolve", since=row.first_window, until=until,
                columns=None, author=author, at=now,
            )
            incidents.update(connection, row.id, **values)
            say(connection, pipeline, row, RESOLVED, why, now)
        audit(connection, now, author, "incident.resolve", {"incident": row.id, "reason": reason, "until": iso(until)})
        known = incidents.rollback_of(connection, row.id)
        waiting = known is not None and known.state in ("requested", "awaiting_approval")
        if waiting and known is not None and incidents.move_rollback(connection, known, state="cancelled", detail=f"the incident was resolved by {author}"):
            outbox.cancel_rollback(connection, row.id, "the incident was resolved")
    return f"INC-{row.id} closed by {author}; a later breach opens a new incident"


def approve(pipeline: Pipeline, text: str, code: str, author: str) -> str:
    """Approve just the rollback that was proposed: the code is of its payload, and the guards are asked again."""
    assert pipeline.store is not None
    now = pipeline.clock.now()
    with pipeline.store.write() as connection:
        row = find(connection, text)
        known = incidents.rollback_of(connection, row.id)
        if known is None or known.state != "awaiting_approval":
            state = known.state.replace("_", " ") if known is not None else "none was proposed"
            raise ConfigError(f"INC-{row.id}: no rollback waits for approval ({state}); see driftd rollback why-not INC-{row.id}")
        if code.lower() != code_of(known.payload_hash):
            audit(connection, now, author, "rollback.approval_refused", {"rollback": known.id, "incident": row.id, "code": code[:40]})
            refused = f"INC-{row.id}: {code!r} is not the code of the rollback that waits (from {known.from_version} to {known.to_version}); an approval is good for one proposal only: see driftd rollback list"
        elif known.expires_at is not None and known.expires_at <= now:
            refused = f"INC-{row.id}: the approval was possible until {iso(known.expires_at)}; it is proposed again with fresh guards"
        else:
            refused = _sent_for(connection, pipeline, row, known, author, now)
    if refused:
        raise ConfigError(refused)
    return f"INC-{row.id}: rollback from {known.from_version} to {known.to_version} approved by {author}; it is sent with the daemon's next tick, after the guards were asked once more"


def _sent_for(connection: Connection, pipeline: Pipeline, row: Row[Any], known: Row[Any], author: str, now: datetime) -> str:
    """Put an approved rollback into the outbox; answers why not."""
    prepared = pipeline.known(row.monitor)
    if prepared is None:
        return f"INC-{row.id}: not approved: the settings of {row.monitor} have changed since"
    proposals = Proposals(pipeline.config, prepared)
    proposal = proposals.again(connection, row.id, now)
    failed = next((g for g in proposal.guards if not g.passed), None)
    if failed is not None or (proposal.from_version, proposal.to_version) != (known.from_version, known.to_version):
        why = f"guard {failed.name} does not hold any more: {failed.detail}" if failed is not None else f"it would go to {proposal.to_version} now"
        if failed is not None and failed.name == "timely" and not any(g.name != "timely" and not g.passed for g in proposal.guards):
            return f"INC-{row.id}: not approved now: {why}; the proposal stays until {iso(known.expires_at) if known.expires_at else 'its end'}"
        incidents.save_rollback(connection, known.id, guards=[asdict(g) for g in proposal.guards])
        incidents.move_rollback(connection, known, state="cancelled", detail=why)
        audit(connection, now, author, "rollback.cancelled", {"rollback": known.id, "incident": row.id, "detail": why})
        say(connection, pipeline, row, UPDATED, "rollback cancelled", now)
        return f"INC-{row.id}: not approved: {why}"
    limit = not_after(now, timedelta(seconds=prepared.settings.size_seconds))
    payload = {**known.payload, "data": {**known.payload["data"], "not_after": iso(limit)}}
    moved = incidents.move_rollback(
        connection, known, state="requested", decided_by=author, decided_at=now, not_after=limit, payload=payload, detail=f"approved by {author}",
    )
    if not moved:
        return f"INC-{row.id}: somebody else has just decided on it"
    audit(connection, now, author, "rollback.approved", {"rollback": known.id, "incident": row.id, "payload": known.payload_hash})
    proposals.request(connection, row.id, now)
    say(connection, pipeline, row, UPDATED, f"rollback approved by {author}", now)
    return ""


def reject(pipeline: Pipeline, text: str, author: str, reason: str) -> str:
    """Refuse a rollback for good: it is not proposed again for this incident."""
    assert pipeline.store is not None
    now = pipeline.clock.now()
    with pipeline.store.write() as connection:
        row = find(connection, text)
        known = incidents.rollback_of(connection, row.id)
        if known is None or known.state not in ("awaiting_approval", "requested", "blocked", "expired", "dry_run", "cancelled"):
            raise ConfigError(f"INC-{row.id}: there is no rollback to reject" + (f"; it is {known.state}" if known is not None else ""))
        detail = f"rejected by {author}" + (f": {reason}" if reason else "")
        if not incidents.move_rollback(connection, known, state="rejected", detail=detail, decided_by=author, decided_at=now):
            raise ConfigError(f"INC-{row.id}: somebody else has just decided on it")
        outbox.cancel_rollback(connection, row.id, detail)
        audit(connection, now, author, "rollback.rejected", {"rollback": known.id, "incident": row.id, "reason": reason})
        if row.state == "open":
            say(connection, pipeline, row, UPDATED, f"rollback {detail}", now)
    return f"INC-{row.id}: the rollback to {known.to_version} is rejected by {author} and not proposed again"


def stop_rollbacks(store: Store, author: str, now: datetime, go: Config | None = None) -> str:
    """The kill switch in the store: stop every rollback of the fleet, or (with the configuration to ``go`` by) let them go on."""
    with store.write() as connection:
        one_at_a_time(connection, DISPATCH)  # what is just being sent is sent before this answers, and nothing after
        incidents.set_switch(connection, author if go is None else "")
        audit(connection, now, author, "rollback.stop" if go is None else "rollback.go", {})
        left = kill_switch(go, connection) if go is not None else ""
    if go is None:
        return f"no rollback of any model is sent until driftd rollback go (set in the store by {author})"
    return "rollbacks may be sent again" + (f"; but not while {left}" if left else "")
