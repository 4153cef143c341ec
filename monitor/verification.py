"""Whether a rollback may leave, and whether it took effect: the guards again, the prediction log, and who is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy.engine import Connection, Row

from checks.core.window import iso
from monitor.alerting.incidents import UPDATED
from monitor.alerting.rollback import payload_hash
from monitor.clock import Clock
from monitor.delivery.rollback import RollbackDispatcher
from monitor.pipeline import Pipeline
from monitor.ports import VersionsJob, Workers
from monitor.prepare import Prepared
from monitor.proposals import Proposals
from monitor.store import incidents
from monitor.store.store import Store
from monitor.upkeep import say

ENOUGH_ROWS = 20
VERIFIED_SHARE = 0.95


class Verification:
    """What a rollback's dispatcher asks of the rest of driftd."""

    def __init__(self, store: Store, pipeline: Pipeline, workers: Workers, clock: Clock) -> None:
        self._store, self._pipeline, self._workers, self._clock = store, pipeline, workers, clock

    def changed(self, connection: Connection, incident: int, why: str) -> None:
        """Tell the people of an incident that its rollback changed state."""
        say(connection, self._pipeline, incidents.get(connection, incident), UPDATED, why, self._clock.now())

    def recheck(self, connection: Connection, rollback: Row[Any]) -> str:
        """Why a decided rollback must not leave now, or empty: the guards from fresh evidence, and that it is what was approved."""
        row = incidents.get(connection, rollback.incident_id)
        prepared = self._pipeline.known(rollback.monitor)
        if prepared is None:
            return "the monitor's settings have changed since"
        mode = prepared.monitor.rollback.effective_mode
        if mode != rollback.mode or mode not in ("approve", "auto"):
            return f"rollback.mode is {mode} now"
        data = rollback.payload["data"]
        if payload_hash({**data, "proposed_at": rollback.payload["timestamp"]}) != rollback.payload_hash:
            return "its payload is not the one that was decided"
        if rollback.mode == "approve" and not rollback.decided_by:
            return "nobody has approved it"
        if row.state != "open":
            return f"the incident is {row.state}"
        proposal = Proposals(self._pipeline.config, prepared).again(connection, rollback.incident_id, self._clock.now())
        failed = next((g for g in proposal.guards if not g.passed), None)
        if failed is not None:
            return f"guard {failed.name} does not hold any more: {failed.detail}"
        if (proposal.from_version, proposal.to_version) != (rollback.from_version, rollback.to_version):
            return f"it would go from {proposal.from_version} to {proposal.to_version} now"
        return ""

    def look(self, prepared: Prepared, dispatcher: RollbackDispatcher) -> None:
        """Ask the prediction log what became of a monitor's rollbacks."""
        name, settings = prepared.monitor.name, prepared.monitor.rollback
        with self._store.read() as connection:
            rows = incidents.rollbacks(connection, name, ("confirmed", "unknown"))
        for row in rows:
            now = self._clock.now()
            if row.state == "confirmed":
                self._verify(prepared, row, dispatcher)
            elif settings.status_url is None and row.settle_until is not None and now >= row.settle_until:
                self._probe(prepared, row, dispatcher)

    def _versions(self, prepared: Prepared, since: Any) -> dict[str, int]:
        found: dict[str, int] = self._workers.run(VersionsJob(prepared.monitor, since, self._clock.now()))
        return found

    def _verify(self, prepared: Prepared, row: Row[Any], dispatcher: RollbackDispatcher) -> None:
        """Verification A: after the grace, at least 95% of prediction rows carry the target version."""
        since = row.confirmed_at + prepared.monitor.rollback.settle
        if self._clock.now() <= since:
            return
        versions = self._versions(prepared, since)
        rows = sum(versions.values())
        if rows < ENOUGH_ROWS:
            return
        share = versions.get(row.to_version, 0) / rows
        state = "verified" if share >= VERIFIED_SHARE else "failed"
        detail = f"{share:.0%} of {rows} rows since {iso(since)} carry {row.to_version}"
        dispatcher.set_state(row, state, detail, verified_at=self._clock.now())

    def _probe(self, prepared: Prepared, row: Row[Any], dispatcher: RollbackDispatcher) -> None:
        """Of a request whose fate is not known, where no address tells which version is live, the newest rows do."""
        versions = self._versions(prepared, row.dispatched_at)
        rows = sum(versions.values())
        share = {v: n / rows for v, n in versions.items()} if rows >= ENOUGH_ROWS else {}
        if share.get(row.to_version, 0.0) >= VERIFIED_SHARE:
            dispatcher.set_state(row, "confirmed", f"{share[row.to_version]:.0%} of {rows} rows carry {row.to_version}", confirmed_at=self._clock.now())
            return
        longest = timedelta(seconds=prepared.settings.size_seconds) + prepared.monitor.rollback.settle
        if share.get(row.from_version, 0.0) >= VERIFIED_SHARE:
            dispatcher.over(row, row.from_version, "the prediction log")
        elif self._clock.now() - row.dispatched_at > longest:
            dispatcher.over(row, None, "the prediction log")
